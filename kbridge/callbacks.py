# SPDX-License-Identifier: GPL-2.0-only
"""Whether the kernel may call a packed image's functions later, by itself: timers, work, threads.

Such an image must not be freed under them.  With a module_exit() that is the kmod's own business,
as for any module; an image that has none stays in memory for good.  So this errs on the safe side:
"yes" costs some pages, "no" must be right.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from kbridge.pack import SYM_IMAGE, Image

# lea disp32(%rip), %reg
_LEA = re.compile(rb"[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d](?=(.{4}))", re.DOTALL)

# Parts of the names of kernel functions that keep a pointer after they return.  What takes a
# function and calls it before it returns (sort, iterate_fd, walk_page_range, smp_call_function)
# has none of them.
_KEEPS = re.compile(
    r"register|subscribe|timer|queue|work|tasklet|kthread|call_rcu|call_srcu|rcu_tasks|irq|async"
    r"|notifier|proc_|debugfs|sysfs|seq_|cdev|device|driver|class_|wait|hook|_add|add_|insert|"
    r"create|attach|install|init|open|start|schedule|enable|set_|alloc|probe|poll|filter|target"
)


def _taken(image: Image) -> Iterator[int]:
    """Image offsets whose address the image holds, in data or in an instruction."""
    tables = [range(offset, offset + size) for offset, size in image.tables]
    for record in image.records:
        # the kernel reads its tables, it does not call what is in them
        if record.symbol == SYM_IMAGE and not any(record.offset in table for table in tables):
            yield record.addend
    for found in _LEA.finditer(image.content, 0, image.text_end):
        (distance,) = struct.unpack("<i", found[1])
        yield found.end() + 4 + distance


def possible(image: Image) -> bool:
    """Whether a function's address is taken, and a kernel function is used that might keep it."""
    starts = {offset for _, offset, _ in image.functions}
    if starts.isdisjoint(_taken(image)):
        return False
    return any(_KEEPS.search(entry.name) for entry in image.imports)
