# SPDX-License-Identifier: GPL-2.0-only
"""What kbridge needs of a machine, each tried for real.  Not for showing it: verbs/doctor.py.

A check returns what it found, or raises KbridgeError whose hint is the command that mends it.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.util
import os
import platform
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kbridge import btf, interrupts, kcompile, kelevate, paths, proc, runtime
from kbridge.errors import CommandError, KbridgeError
from kbridge.kcompile import Source
from kbridge.kernels import image as images
from kbridge.kernels import kbuild, target
from kbridge.kernels.kbuild import KbuildFlags
from kbridge.kernels.target import KernelTarget
from kbridge.vm import contents, hostroot, native, qemu

OK, FAILED, EXTRA, UNTRIED = "ok", "failed", "extra", "untried"

_CACHE_MIB, _SCRATCH_MIB, _MEMORY_MIB = 300, 100, 700
_PACKAGES = (
    *("argcomplete", "capstone", "elftools", "jinja2", "lief", "lz4", "lzallright", "numpy"),
    *("rich", "zstandard"),
)
_INSTALL_AGAIN = "install kbridge's wheel or package again; in a checkout: make setup"
_ELSEWHERE = "; programs run in a virtual machine all the same"

_C = "#include <linux/sched.h>\nint tried(void);\nint tried(void)\n{\n\treturn current->pid;\n}\n"
_ASSEMBLY = (
    "#include <linux/linkage.h>\n#include <asm/nospec-branch.h>\n"
    "SYM_FUNC_START(tried_too)\n\tANNOTATE_NOENDBR\n\tRET\nSYM_FUNC_END(tried_too)\n"
)
_APP = "#include <stdio.h>\nint main(void)\n{\n\treturn puts(__VERSION__) < 0;\n}\n"
# one type, int, as the kernel's Documentation/bpf/btf.rst has it
_BTF = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 16, 16, 5)
_BTF += struct.pack("<IIII", 1, btf.INT << 24, 4, 1 << 24 | 32) + b"\0int\0"
_CAP_SYS_MODULE = 16  # include/uapi/linux/capability.h


@dataclass(frozen=True)
class Finding:
    """How a check ended.  `mend`: what to do about it, '' for nothing."""

    name: str
    state: str
    says: str
    mend: str = ""


class _UntriedError(Exception):
    """A check that has no sense after another one failed."""


@dataclass
class _Trial:
    """What checks learn and later ones use."""

    kernel: str | None
    kdir: str | None
    folder: Path
    target: KernelTarget | None = None
    flags: KbuildFlags | None = None
    vmlinuz: Path | None = None
    objects: list[Path] = field(default_factory=list)

    def known_target(self) -> KernelTarget:
        if self.target is None:
            raise _UntriedError("kernel headers")
        return self.target

    def known_flags(self) -> KbuildFlags:
        if self.flags is None:
            raise _UntriedError("Kbuild")
        return self.flags


# -- the machine --


def _make_room(folder: Path) -> str:
    return f"make room there: du -sh {shlex.quote(str(folder))}/*"


def _room(folder: Path, least: int) -> str:
    free = shutil.disk_usage(folder).free >> 20
    if free < least:
        raise KbridgeError(
            f"{free} MiB free in {folder}, {least} are wanted",
            hint=_make_room(folder),
        )
    return f"{folder}, {free} MiB free"


def _cache(_: _Trial) -> str:
    folder = paths.cache()
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"x")
            file.flush()
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        raise KbridgeError(
            f"cannot write in {folder}: {problem.strerror}",
            hint=_make_room(folder) if full else "set KBRIDGE_CACHE to a folder that you can write",
        ) from problem
    return _room(folder, _CACHE_MIB)


def _scratch(trial: _Trial) -> str:
    program = trial.folder / "program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    try:
        proc.run([program])
    except CommandError as problem:
        raise KbridgeError(
            f"no program can be run in {trial.folder.parent}: {problem.message}",
            hint="name a folder without noexec: export TMPDIR=/var/tmp",
        ) from problem
    return _room(trial.folder.parent, _SCRATCH_MIB)


def _memory(_: _Trial) -> str:
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) >> 10 for line in lines if line.startswith("MemAvailable"))
    if free < _MEMORY_MIB:
        raise KbridgeError(
            f"{free} MiB free; a virtual machine takes 512, and QEMU some more",
            hint="kbridge run --memory 256 PROG",
        )
    return f"{free} MiB free"


def _python(_: _Trial) -> str:
    for name in _PACKAGES:
        try:
            with interrupts.held():
                importlib.import_module(name)
        except ImportError as problem:
            raise KbridgeError(f"{name}: {problem}", hint=_INSTALL_AGAIN) from problem
    return f"those that it needs, for Python {platform.python_version()}"


def _scons(_: _Trial) -> str:
    # the Debian package of kbridge has none of its own: Debian's loads kbridge's tool
    program = shutil.which("scons")
    if importlib.util.find_spec("SCons") is None and program is None:
        raise KbridgeError(
            "not installed: only SConstruct files need it", hint="apt-get install scons"
        )
    words = [program] if program else [sys.executable, "-m", "SCons"]
    proc.run([*words, "--version"], hint="apt-get install --reinstall scons")
    return shlex.join(words)


def _app(trial: _Trial) -> str:
    compiler = os.environ.get("CC", "gcc").split() or ["gcc"]
    source, program = trial.folder / "app.c", trial.folder / "app"
    source.write_text(_APP)
    try:
        proc.run([*compiler, "-o", program, source], hint="apt-get install gcc libc6-dev")
        return f"{shlex.join(compiler)} {proc.run([program]).stdout.strip()}"
    except CommandError as problem:
        problem.hint = problem.hint or "install it, or set CC to a C compiler: export CC=gcc"
        raise


def _runtime(_: _Trial) -> str:
    return str(runtime.library())


# -- kernel code --


def _headers(trial: _Trial) -> str:
    trial.target = target.find(trial.kernel, trial.kdir)
    return f"{trial.target.release}, in {trial.target.kdir}"


def _kbuild(trial: _Trial) -> str:
    trial.flags = kbuild.flags(trial.known_target())
    return f"its flags, for {trial.flags.version}"


def _compiled(trial: _Trial, name: str, text: str) -> str:
    flags = trial.known_flags()
    source = trial.folder / name
    source.write_text(text)
    stem = f"{source.stem}.kmod"
    steps = kcompile.source_steps(flags, Source(source), trial.folder, module="doctor", stem=stem)
    for command in steps.commands:
        proc.run(command, env=kcompile.ENVIRONMENT)
    trial.objects.append(steps.object)
    tools = " and objtool" if len(steps.commands) > 1 else ""
    return f"{Path(flags.compile[0]).name}{tools}, with the kernel's flags"


def _kmod_c(trial: _Trial) -> str:
    return _compiled(trial, "tried.c", _C)


def _kmod_assembly(trial: _Trial) -> str:
    return _compiled(trial, "tried_too.S", _ASSEMBLY)


def _joined(trial: _Trial) -> str:
    if not trial.objects:
        raise _UntriedError("kmod in C")
    commands = kcompile.join_steps(trial.known_flags(), trial.objects, trial.folder / "joined.o")
    for command in commands:
        proc.run(command, env=kcompile.ENVIRONMENT)
    return " and ".join(Path(command[0]).name for command in commands)


def _image(trial: _Trial) -> str:
    release = trial.known_target().release
    try:
        trial.vmlinuz = images.find(release, download=False).vmlinuz
    except KbridgeError:
        package, version = images.obtainable(release)
        return f"not here; the first build fetches {package} {version or ''}".rstrip()
    return str(trial.vmlinuz)


def _symbols(trial: _Trial) -> str:
    if trial.vmlinuz is None:
        raise _UntriedError("kernel image")
    return f"{len(images.symbols(trial.known_target().release).symbols)}, out of the image"


def _types(_: _Trial) -> str:
    if btf.Btf(_BTF, "a type").find("int", btf.INT) != 1:
        raise KbridgeError("libbpf reads a type wrong", hint="apt-get install --reinstall libbpf1")
    return "libbpf reads them"


def _kelevate(trial: _Trial) -> str:
    return str(kelevate.module(trial.known_target()))


# -- the virtual machine --


def _qemu(_: _Trial) -> str:
    program = qemu.program()
    said = qemu.starts(program, "tcg")
    if said:
        raise KbridgeError(
            f"{program} runs no guest: {said}",
            hint="apt-get install --reinstall qemu-system-x86",
        )
    return f"{program} runs a guest"


def _guest(_: _Trial) -> str:
    for tool, package in (("cpio", "cpio"), ("depmod", "kmod"), ("modinfo", "kmod")):
        places = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        found = shutil.which(tool, path=places)
        if not found:
            raise KbridgeError(f"{tool}: not found", hint=f"apt-get install {package}")
        proc.run([found, "--version"], hint=f"apt-get install --reinstall {package}")
    return f"its first process, {contents.init_program()}"


def _kvm(_: _Trial) -> str:
    device = Path("/dev/kvm")
    if not device.exists():
        raise KbridgeError(
            "no /dev/kvm: virtual machines are emulated, and boot in seconds all the same",
            hint="modprobe kvm_intel || modprobe kvm_amd",
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise KbridgeError(
            "/dev/kvm is not yours: virtual machines are emulated",
            hint='usermod -aG kvm "$USER", as root; then log in again',
        )
    said = qemu.starts(qemu.program(), "kvm")
    if said:
        raise KbridgeError(
            f"/dev/kvm runs no guest: {said}",
            hint="let the machine below this one have nested virtualization, if it is yours",
        )
    return "/dev/kvm runs a guest"


# -- more than is needed --


def _may_load_modules() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    words = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
    return bool(int(words, 16) >> _CAP_SYS_MODULE & 1)


def _here(_: _Trial) -> str:
    release = platform.release()
    if native.possible(release, None):
        return f"kelevate is loaded: programs for {release} run on this machine itself"
    if Path("/sys/module/kelevate").is_dir() and os.geteuid():
        raise KbridgeError("kelevate is loaded, and only root may use it", hint="sudo kbridge run")
    disabled = Path("/proc/sys/kernel/modules_disabled")
    if not disabled.is_file():
        raise KbridgeError(f"kernel {release} takes no modules" + _ELSEWHERE)
    if disabled.read_text().strip() != "0":
        raise KbridgeError("kernel.modules_disabled: no module can be loaded" + _ELSEWHERE)
    lockdown = Path("/sys/kernel/security/lockdown")
    if lockdown.is_file() and "[none]" not in lockdown.read_text():
        raise KbridgeError("the kernel is locked down, so kelevate has no use" + _ELSEWHERE)
    if not os.geteuid() and not _may_load_modules():
        raise KbridgeError("no CAP_SYS_MODULE here (a container?)" + _ELSEWHERE)
    try:
        target.find(release)
    except KbridgeError as problem:
        raise KbridgeError(
            f"no headers of the running kernel {release}, so no kelevate for it",
            hint=f"apt-get install linux-headers-{release}",
        ) from problem
    words = "sudo " if os.geteuid() else ""
    raise KbridgeError(
        f"kelevate is not loaded: programs for {release} run in a virtual machine, too",
        hint=f'{words}insmod "$(kbridge kelevate --kernel {release})"',
    )


def _host_root(_: _Trial) -> str:
    tool = hostroot.check_tools()
    release = hostroot.newest()
    try:
        hostroot.find(release, download=False)
    except KbridgeError as problem:
        raise KbridgeError(
            f"no kernel with 9p is here yet ({release})",
            hint="the first of them fetches it: kbridge run --root host true",
        ) from problem
    return f"{tool}, with kernel {release}"


@dataclass(frozen=True)
class Check:
    """`extra`: kbridge does without, only not so well."""

    name: str
    what: Callable[[_Trial], str]
    extra: bool = False


CHECKS = (
    Check("cache", _cache),
    Check("temporary folder", _scratch),
    Check("Python packages", _python),
    Check("compiler of apps", _app),
    Check("libkbridge", _runtime),
    Check("kernel headers", _headers),
    Check("Kbuild", _kbuild),
    Check("kmod in C", _kmod_c),
    Check("kmod in assembly", _kmod_assembly),
    Check("join of kmods", _joined),
    Check("kernel image", _image),
    Check("kernel symbols", _symbols),
    Check("kernel types", _types),
    Check("kelevate", _kelevate),
    Check("QEMU", _qemu),
    Check("guest", _guest),
    Check("SCons", _scons, extra=True),
    Check("memory", _memory, extra=True),
    Check("KVM", _kvm, extra=True),
    Check("this kernel", _here, extra=True),
    Check("--root host", _host_root, extra=True),
)


def _finding(check: Check, trial: _Trial) -> Finding:
    bad = EXTRA if check.extra else FAILED
    try:
        return Finding(check.name, OK, check.what(trial))
    except _UntriedError as problem:
        return Finding(check.name, UNTRIED, f"needs: {problem}")
    except CommandError as problem:
        said = problem.stderr.strip().splitlines()
        told = f"{problem.message}: {said[0]}" if said else problem.message
        return Finding(check.name, bad, told, problem.hint or "")
    except KbridgeError as problem:
        return Finding(check.name, bad, problem.message, problem.hint or "")
    except (OSError, subprocess.SubprocessError, StopIteration, ValueError) as problem:
        return Finding(check.name, bad, f"{type(problem).__name__}: {problem}")


def examine(kernel: str | None = None, kdir: str | None = None) -> Iterator[Finding]:
    """Try everything, for that kernel or the default one; each finding as it is made."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(paths.scratch("kbridge-doctor-"))
        except KbridgeError as problem:
            yield from _without_folder(problem)
            return
        trial = _Trial(kernel, kdir, folder)
        for check in CHECKS:
            yield _finding(check, trial)


def _without_folder(problem: KbridgeError) -> Iterator[Finding]:
    for check in CHECKS:
        if check.what is _scratch:
            yield Finding(check.name, FAILED, problem.message, problem.hint or "")
        else:
            yield Finding(check.name, UNTRIED, "needs: temporary folder")
