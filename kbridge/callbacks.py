# SPDX-License-Identifier: GPL-2.0-only
"""Whether the kernel may use a packed image later, by itself: timers, work, threads, lists.

Such an image must not be freed under it.  With a module_exit() that is the kmod's own business,
as for any module; an image that has none stays in memory for good.  So this errs on the safe side:
"yes" costs some pages, "no" must be right.  What it cannot see is a pointer that the kmod's own
code writes into a structure of the kernel.
"""

from __future__ import annotations

import re
import struct

from kbridge.pack import Image

# lea disp32(%rip), %reg
_LEA = re.compile(rb"[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d](?=(.{4}))", re.DOTALL)

# Names of the kernel that keep no function of the caller: what they are given they call before
# they return, or not at all.  Cross-processor calls are waited for by kelevate.
_HARMLESS = re.compile(
    # text and memory
    r"_printk|__warn_printk|dump_stack|panic|k?v?s[nc]*printf|kv?asprintf"
    r"|_*mem(?:cpy|set|move|cmp|chr|scan)\w*"
    r"|str(?:n|l|case|r|s|p|c|se)*(?:cpy|cat|cmp|len|chr|str|spn|brk|p)"
    r"|kstrto\w+|simple_strto\w+|hex\w*|__(?:get|put)_user\w+|_*copy_(?:from|to)_(?:user|kernel)\w*"
    r"|_*k(?:v?m|vz|z|c|re)alloc\w*|k(?:mem|str|strn)dup\w*|k(?:v|z)?free\w*|v[mz]alloc\w*|vfree"
    r"|get_zeroed_page\w*"
    r"|_*get_free_pages\w*|_*free_pages|_*alloc_pages\w*|kmem_cache_(?:alloc|free)\w*|clear_user\w*"
    # locks, waiting, time
    r"|_raw_\w+|_*mutex_\w+|down(?:_\w+)?|up(?:_\w+)?|__init_rwsem|__?rcu_read_\w+|synchronize_rcu"
    r"|schedule|schedule_timeout\w*|msleep\w*|usleep\w*|__\w*delay|jiffies\w*|\w*msecs_to_jiffies"
    r"|ktime_get\w*|_*wake_up\w*|wait_for_completion\w*|complete(?:_all)?|prepare_to_wait\w*"
    r"|finish_wait|init_wait\w*|__init_(?:wait|swait)queue_head|__SC[TK]__(?:cond|might)_resched"
    r"|__cond_resched|preempt_schedule\w*|__SC[TK]__preempt_schedule\w*|_*refcount_\w+"
    # tasks and processors
    r"|current_task|(?:const_)?pcpu_hot|this_cpu_off|__per_cpu_offset|cpu_number|__cpu_\w+_mask"
    r"|nr_cpu_ids|_*find_\w*bit\w*|cpumask_\w+|__bitmap_\w+|cpu_info|boot_cpu_data|init_task"
    r"|tasklist_lock|init_mm|init_pid_ns|find_\w*pid\w*|pid_\w+|__task_pid_nr_ns|get_pid_task"
    r"|get_task_mm|mmput|__put_task_struct\w*|find_vma\w*|page_offset_base|phys_base|vmemmap_base"
    # functions that call one of the caller's before they return
    r"|sort(?:_r)?|list_sort|bsearch|iterate_fd|walk_page_\w+|kallsyms_on_each_symbol|stop_machine"
    r"|smp_call_function\w*|on_each_cpu\w*|__rb_\w+|rb_\w+|_*list_(?:add|del)_\w+"
    # what compilers, objtool and headers bring
    r"|__x86_\w+|__stack_chk_fail|__fentry__|fortify_panic|__fortify_\w+|__ubsan_\w+|param_ops_\w+"
    r"|module_put|try_module_get|capable|ns_capable|get_random_\w+|__sw_hweight\w+"
)

# Parts of the names of functions that may keep data that they are given.
_KEEPS_DATA = re.compile(
    r"register|subscribe|create|insert|attach|link|queue|timer|_add$|_add_|^add_"
)


def _takes_text(image: Image) -> bool:
    """Whether the image holds the address of code of its own, in data or in an instruction."""
    if image.takes_text:
        return True
    elsewhere = {record.offset for record in image.records}  # addresses of the kernel
    for found in _LEA.finditer(image.content, 0, image.text_end):
        (distance,) = struct.unpack("<i", found[1])
        if found.end() in elsewhere:
            continue
        if 0 <= found.end() + 4 + distance < image.text_end:
            return True
    return False


def possible(image: Image) -> bool:
    """Whether a kernel function that the image uses might keep a pointer into it."""
    others = [entry.name for entry in image.imports if not _HARMLESS.fullmatch(entry.name)]
    return bool(others) if _takes_text(image) else any(map(_KEEPS_DATA.search, others))
