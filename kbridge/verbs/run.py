# SPDX-License-Identifier: GPL-2.0-only
"""kbridge run: runs a program where its kernel is, here or in a throw-away virtual machine.

Decides which kernel and where, and turns how it ended into an exit status; the parts are in
kbridge.vm and kbridge.kernels.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import platform
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kbridge import (
    elevation,
    interrupts,
    kelevate,
    libkernel,
    log,
    paths,
    proc,
    progress,
    runtime,
)
from kbridge.errors import KbridgeError
from kbridge.kernels import image as images
from kbridge.kernels import target as targets
from kbridge.symbols import image as symbols
from kbridge.symbols import kallsyms
from kbridge.verbs import exits
from kbridge.vm import (
    contents,
    delivery,
    environment,
    fault,
    hostroot,
    initramfs,
    machine,
    modules,
    native,
    qemu,
    rooted,
    share,
)
from kbridge.vm.console import Console
from kbridge.vm.fault import Fault
from kbridge.vm.program import Program, examine
from kbridge.vm.relay import Order, Outcome

GUEST_PANIC = 123
TIMED_OUT = 124
OWN_FAILURE = 125

HOST = "host"  # --root: this machine's

_LOADED = "program-modules"  # the guest's list of them

CONSOLE_LOG = "KBRIDGE_CONSOLE_LOG"  # a file that gets all that the guest's kernel says


@dataclass
class RunRequest:
    """`memory` in MiB, `timeout` in seconds, `files` as HOST:GUEST, `modules` by their names.

    `append`: more words for the kernel's command line.  `fresh`: boot a machine for this run alone,
    not on this machine's own kernel and not from a saved state.  `gdb`: a TCP port of
    this machine, at which gdb can attach to the guest.  `other_build`: also on a kernel that the
    program was not built for, if nothing that it uses is different there.  `elevate`: the whole
    program runs in ring 0; `inherit`, `without` and `count` are ElevateRequest's.  `root`: HOST,
    or a folder, where PROG's path is one in that folder; None for a root of its own.
    """

    program: str
    args: Sequence[str] = ()
    kernel: str | None = None
    kdir: str | Path | None = None
    cpus: int = 2
    memory: int = 512
    timeout: float | None = None
    append: str = ""
    files: Sequence[str] = field(default_factory=list)
    modules: Sequence[str] = field(default_factory=list)
    gdb: int | None = None
    fresh: bool = False
    other_build: bool = False
    elevate: bool = False
    inherit: bool = False
    without: Sequence[str] = field(default_factory=list)
    count: bool = False
    root: str | None = None
    verbose: bool = False
    dry_run: bool = False


def _shared(request: RunRequest) -> Path | None:
    """The folder of this machine that is to be the root.  Raises KbridgeError."""
    return None if request.root in (None, HOST) else rooted.folder(str(request.root))


# Which kernel


def _release(request: RunRequest, program: Program) -> str:
    note = program.note
    wanted = request.kernel
    if request.kdir:
        wanted = targets.find(request.kernel, request.kdir).release
    if request.root and wanted is None and (note is None or request.other_build):
        return hostroot.newest()
    if note is None:
        if wanted is None and native.possible(platform.release(), None):
            return platform.release()
        return wanted or targets.find().release
    if request.other_build:
        here = wanted is None and native.possible(platform.release(), None)
        return platform.release() if here else wanted or note.release
    if wanted and wanted != note.release:
        raise KbridgeError(
            f"{note.file} was built for kernel {note.release}, not {wanted}",
            hint=f"leave --kernel out, or build it for {wanted}; with --other-build it runs there "
            "if nothing that it uses changed",
        )
    return note.release


def _check_build_id(program: Program, found: str, where: Path) -> None:
    note = program.note
    if note and note.build_id != found:
        raise KbridgeError(
            f"{note.file} was built for build ID {note.build_id} of kernel {note.release}, "
            f"{where} has {found or 'none'}",
            hint="build the program again; with --other-build it runs if nothing that it uses "
            "changed",
        )


def _admitted(
    request: RunRequest, program: Program, image: images.KernelImage, build_id: str
) -> dict[str, str]:
    """The environment in which libkbridge lets the program in on that kernel.

    Raises KbridgeError where the program is for another one and --other-build is not given, or
    where something that it uses is different.
    """
    if not request.other_build:
        _check_build_id(program, build_id, image.vmlinuz)
        return {}
    others = [
        note for note in program.notes if (note.release, note.build_id) != (image.release, build_id)
    ]
    if not others:
        return {}
    from kbridge import abi  # which takes a fifth of the time that a run needs before its machine

    new = abi.kernel(image)
    digests = [
        abi.admit(note.file, (note.release, note.build_id), note.interface, new, program.modules)
        for note in others
    ]
    return {abi.VARIABLE: " ".join([image.release, build_id, *digests])}


# What the guest gets


def _kelevate(request: RunRequest, program: Program, release: str) -> Path | None:
    """kelevate.ko.  Programs without a kernel part can do without it.

    Its headers may be fetched for it, but not for what it is not needed for.
    """
    needed = program.note is not None or request.elevate
    find = hostroot.headers if needed or request.root else targets.find
    try:
        return kelevate.module(find(release))
    except KbridgeError as problem:
        if needed:
            raise
        log.detail(f"no kelevate in the guest: {problem.message}")
        return None


def _guest_files(
    request: RunRequest, program: Program, image: images.KernelImage
) -> contents.GuestFiles:
    table = symbols.cached(image.vmlinuz)
    return contents.GuestFiles(
        kelevate=_kelevate(request, program, image.release),
        libkbridge=runtime.library(),
        libkernel=libkernel.cached_runtime(table),
    )


def _machine(request: RunRequest, kernel: Path, initrd: Path) -> qemu.Machine:
    return qemu.Machine(
        kernel=kernel,
        initramfs=initrd,
        cpus=request.cpus,
        memory=request.memory,
        append=request.append,
        gdb=request.gdb,
        verbose=request.verbose,
    )


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError as problem:
        raise KbridgeError(
            "the working folder is no longer there", hint="change to one that is: cd"
        ) from problem


def _plan(request: RunRequest) -> elevation.Plan | None:
    return elevation.plan(request.inherit, request.without) if request.elevate else None


def _order(request: RunRequest, program: Program, more: Mapping[str, str]) -> Order:
    folder = share.FOLDER if _shared(request) else _folder()
    passed = environment.filtered(os.environ, folder)
    if _shared(request):
        passed = share.variables(passed)
    return Order(
        path=str(program.path),
        argv=[request.program, *request.args],
        environment={**passed, **more},
        folder=folder,
        elevation=_plan(request),
    )


# How it ended


def _too_late(seconds: float | None) -> KbridgeError:
    return KbridgeError(
        f"not at its end after {seconds:g} s" if seconds else "timed out",
        hint="give it more time: --timeout SECONDS",
        status=TIMED_OUT,
    )


def _blame(program: Program, found: Fault | None) -> tuple[str, str]:
    """What the kernel says of the fault, and what else one can do about it."""
    if found is None:
        return "", ""
    source = fault.source_line(found, [note.file for note in program.notes])
    known = source or found.names_line() or "[kb:" not in found.function
    hint = "" if known else "; build PROG with -g (scons: debug=1) to have the line"
    return found.text(source), hint


def _machine_gone(request: RunRequest, program: Program, console: Console) -> KbridgeError:
    console.print_fault()
    panic = console.panic()
    cause = f"the guest's kernel panicked: {panic}" if panic else "the guest ended before PROG did"
    said, more = _blame(program, console.fault())
    hint = "see what its kernel said; --verbose shows all of it"
    if request.verbose:
        hint = "see above what its kernel said"
    return KbridgeError(
        f"{cause}; it says: {said}" if said else cause,
        hint=hint + more,
        status=GUEST_PANIC,
    )


def _status(request: RunRequest, program: Program, outcome: Outcome, console: Console) -> int:
    if outcome.failure is not None:
        console.print_last_lines()
        raise KbridgeError(
            f"the guest cannot run PROG: {outcome.failure}",
            hint="see its messages above" if request.verbose else "--verbose shows its messages",
        )
    if outcome.refused is not None:
        raise exits.not_started(program.path, outcome.refused)
    if outcome.wait_status is not None:
        if os.WIFSIGNALED(outcome.wait_status):
            said, more = _blame(program, console.fault())
            if said:
                console.print_fault()
            cause = f"; the guest's kernel says: {said}" if said else ""
            hint = "--verbose shows what the guest's kernel says"
            if request.verbose:
                hint = "see above what the guest's kernel says"
            number = os.WTERMSIG(outcome.wait_status)
            return exits.ended_by(program.path, number, cause, hint + more)
        return os.WEXITSTATUS(outcome.wait_status)
    if outcome.late:
        if console.panic():
            raise _machine_gone(request, program, console)
        raise _too_late(request.timeout)
    raise _machine_gone(request, program, console)


# The two places


def _running_image(release: str) -> images.KernelImage:
    """The image of the kernel that runs here: of that very build."""
    build_id = kallsyms.running_build_id()
    image = images.of_build(release, build_id)
    if image is None:
        raise KbridgeError(
            f"the image of the running kernel {release} (build ID {build_id or 'unknown'}) is not "
            "here, so nothing can be compared with it",
            hint=f"it belongs at /boot/vmlinuz-{release}",
        )
    return image


def _run_here(request: RunRequest, program: Program, release: str) -> int:
    admitted = {}
    if request.other_build and program.notes:
        image = _running_image(release)
        admitted = _admitted(request, program, image, kallsyms.running_build_id())
    native.prepare()
    order = _order(request, program, admitted)
    log.detail(f"running {program.path} on this machine's kernel")
    with contextlib.closing(native.KernelLog()) as kernel_log:
        try:
            status = native.run(
                program.path,
                order.argv,
                order.environment,
                request.timeout,
                order.elevation,
                request.count,
            )
        except OSError as problem:
            raise exits.not_started(program.path, problem.errno or errno.ENOEXEC) from problem
        said = kernel_log.lines()
    if status is None:
        raise _too_late(request.timeout)
    if status < 0:
        found = fault.last(said)
        # other programs run here too: only what a kmod did is this one's
        blamed, more = _blame(program, found if found and "[kb:" in found.function else None)
        cause = f"; the kernel says: {blamed}" if blamed else ""
        hint = f"dmesg shows what the kernel says{more}"
        return exits.ended_by(program.path, -status, cause, hint)
    return status


@dataclass(frozen=True)
class _Prepared:
    """`delivery`: of the files that the guest gets when it is up.  `keeps`: its state may be a
    saved one.  `inherited`: descriptors that QEMU gets.
    """

    machine: qemu.Machine
    delivery: Iterable[bytes] = ()
    keeps: bool = False
    inherited: Sequence[int] = ()


@contextlib.contextmanager
def _own_root(
    request: RunRequest, program: Program, image: images.KernelImage
) -> Iterator[_Prepared]:
    """A machine whose root is memory, with the program and what it needs."""
    files = _guest_files(request, program, image)
    tree = contents.program_tree(program, request.files)
    contents.check_memory(tree, request.memory)
    with paths.scratch() as folder:  # which is gone before the machine starts
        loaded = initramfs.Tree()
        contents.add_modules(loaded, _modules(request, program, image), _LOADED, folder)
        made = list(delivery.frames(loaded))
    frames = itertools.chain(delivery.frames(contents.delivered(tree)), made)
    base = contents.base(image, files)
    keeps = not request.fresh and request.gdb is None
    yield _Prepared(_machine(request, image.vmlinuz, base), frames, keeps)


def _with_root(machine: qemu.Machine, root: hostroot.Root) -> qemu.Machine:
    made = replace(machine, options=root.options, start=root.start)
    return qemu.for_all_programs(made, kvm=qemu.kvm_works())


@contextlib.contextmanager
def _host_root(
    request: RunRequest, program: Program, image: images.KernelImage
) -> Iterator[_Prepared]:
    """A machine whose root is this one's."""
    files = _guest_files(request, program, image)
    with paths.scratch("kbridge-root-") as folder:
        hostroot.fill(image, files, _modules(request, program, image), folder)
        root = hostroot.prepare(image, folder)
        yield _Prepared(_with_root(_machine(request, image.vmlinuz, root.initramfs), root))


@contextlib.contextmanager
def _shared_root(
    root: Path, request: RunRequest, program: Program, image: images.KernelImage
) -> Iterator[_Prepared]:
    """A machine whose root is a folder of this one."""
    files = _guest_files(request, program, image)
    with tempfile.TemporaryFile(prefix="kbridge-run-") as initrd:
        initramfs.append(contents.base(image, files), initrd)
        with paths.scratch() as folder:
            tree = share.tree(image, _modules(request, program, image), folder)
            initramfs.pack(tree, initrd)
        made = _machine(request, image.vmlinuz, machine.initramfs_path(initrd))
        made = replace(made, options=share.options(root), start=share.START)
        yield _Prepared(made, inherited=[initrd.fileno()])


def _prepared(
    request: RunRequest, program: Program, image: images.KernelImage
) -> contextlib.AbstractContextManager[_Prepared]:
    root = _shared(request)
    if root:
        return _shared_root(root, request, program, image)
    return (_host_root if request.root else _own_root)(request, program, image)


def _modules(request: RunRequest, program: Program, image: images.KernelImage) -> list[Path]:
    asked = modules.requested(image.modules, request.modules)
    return modules.needed(image.modules, (*program.modules, *asked))


def _run_in_machine(request: RunRequest, program: Program, release: str) -> int:
    image = hostroot.find(release) if request.root else images.find(release)
    admitted = _admitted(request, program, image, symbols.cached(image.vmlinuz).build_id)
    log_file = os.environ.get(CONSOLE_LOG)
    console = Console(show=request.verbose, file=Path(log_file) if log_file else None)
    with contextlib.closing(console), _prepared(request, program, image) as prepared:
        order = replace(_order(request, program, admitted), delivery=prepared.delivery)
        deadline = None if request.timeout is None else time.monotonic() + request.timeout
        attempt = machine.Attempt(
            order, console, deadline, orderly=bool(log_file), inherited=prepared.inherited
        )
        with progress.doing(f"booting kernel {release}"):
            outcome = machine.run(prepared.machine, attempt, keeps=prepared.keeps)
        if request.count and outcome.counts:
            log.info(str(outcome.counts))
        return _status(request, program, outcome, console)


def _described_root(request: RunRequest, program: Program, release: str) -> list[str]:
    if _shared(request):
        return [f"# kernel {release}; its root is {request.root}, over 9p, with memory over it"]
    if request.root:
        return [f"# kernel {release}; its root is this machine's, by virtme-ng, over 9p"]
    tree = contents.program_tree(program, request.files)
    contents.check_memory(tree, request.memory)
    return [
        f"# kernel {release}; in the guest, beside kbridge's own:",
        *(f"#   {guest} <- {host}" for guest, host in sorted(tree.files.items())),
        *(f"#   {guest} -> {text}" for guest, text in sorted(tree.links.items())),
    ]


def _describe(request: RunRequest, program: Program, release: str) -> None:
    """--dry-run: a line that one can paste, and comments."""
    lines = []
    folder = Path(os.environ.get("TMPDIR") or "/tmp") / "kbridge-run"
    try:
        image = images.find(release, download=False)
    except KbridgeError:
        vmlinuz = paths.cache("images") / release / "boot" / f"vmlinuz-{release}"
        image = images.KernelImage(release, vmlinuz, None)
        lines.append(f"# the image of kernel {release} would be fetched first")
    shown = _machine(request, image.vmlinuz, folder / "initramfs")
    folder_root = _shared(request)
    if folder_root:
        shown = replace(shown, options=share.options(folder_root), start=share.START)
    elif request.root and image.modules:
        root = hostroot.described(release, folder)
        shown = _with_root(shown, root)
    argv = qemu.command(shown, qemu.Wires.by_hand(), kvm=qemu.kvm_works())
    lines += [shlex.join(argv), *_described_root(request, program, release)]
    if request.modules:
        lines.append(f"# loads, with what they need: {', '.join(request.modules)}")
    if request.other_build and program.notes:
        lines.append(f"# compares first what it uses of its own kernel with kernel {release}")
    order = _order(request, program, {})
    lines += [f"# runs, in {order.folder}: {shlex.join(order.argv)}"]
    print("\n".join(lines))


def _check(request: RunRequest) -> None:
    if request.cpus < 1 or request.memory < 1:
        raise KbridgeError(
            "--cpus and --memory are at least 1", hint="leave them out for what is usual"
        )
    if request.timeout is not None and request.timeout <= 0:
        raise KbridgeError("--timeout is more than 0", hint="leave it out for no limit")
    if (request.inherit or request.without or request.count) and not request.elevate:
        raise KbridgeError(
            "--inherit, --without and --count are of an elevated program", hint="add --elevate"
        )
    if request.gdb is not None and not 0 < request.gdb < 1 << 16:
        raise KbridgeError(f"--gdb {request.gdb}: not a TCP port", hint="take one up to 65535")
    if request.root and request.files:
        raise KbridgeError(
            f"--root {request.root} and --file: the program sees the files of its root",
            hint="leave --file out, and name the file by its path in that root",
        )


def _program(request: RunRequest) -> Program:
    root = _shared(request)
    if root:
        return rooted.examine(root, request.program)
    return examine(request.program, scripts=bool(request.root))


def _run(request: RunRequest) -> int:
    _check(request)
    program = _program(request)
    release = _release(request, program)
    build_id = program.note.build_id if program.note and not request.other_build else None
    _plan(request)
    wishes = (request.fresh, request.files, request.append, request.modules, request.gdb)
    for_machine = any(wishes) or request.root is not None
    if not for_machine and native.possible(release, build_id):
        if not request.dry_run:
            return _run_here(request, program, release)
        words = shlex.join(_order(request, program, {}).argv)
        print(f"# on this machine, kernel {release}:\n{words}")
        return 0
    if request.dry_run:
        _describe(request, program, release)
        return 0
    return _run_in_machine(request, program, release)


def run(request: RunRequest) -> int:
    """Run the program and return its exit status.

    Raises KbridgeError with `status` 123 (guest panic), 124 (time-out), 125 (kbridge's own
    failure), 126 (PROG not executable), 127 (not found), 128+n (killed by signal n).  Where
    SIGTERM or SIGHUP asked kbridge to end, the status is 128+n; Ctrl-C raises KeyboardInterrupt.
    """
    proc.open_standard_streams()
    sys.stdout.flush()  # what the caller has printed comes before PROG's output
    try:
        with interrupts.unwinding(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            return _run(request)
    except interrupts.Interrupted as problem:
        if problem.number == signal.SIGINT:
            raise KeyboardInterrupt from None
        return 128 + problem.number
    except KbridgeError as problem:
        if problem.status < GUEST_PANIC:
            problem.status = OWN_FAILURE
        raise
    except BrokenPipeError:  # of --dry-run: whoever read it has gone
        raise
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        raise KbridgeError(f"{where}{problem.strerror or problem}", status=OWN_FAILURE) from problem
