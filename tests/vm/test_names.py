# SPDX-License-Identifier: GPL-2.0-only
"""The app's memcpy() is libc's and the kmod's is the kernel's, in one process, in every slot.

Programs of every form, each in the same boot, use more than fifty names that both have; what
they print of their link maps is judged by tests/slots.py.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import slots
from conftest import Kbridge
from elftools.elf.elffile import ELFFile
from guest_shell import console_log_environment
from kernel_log import complaints

from kbridge.kernels import image as images
from kbridge.kernels import target
from kbridge.symbols import image as kernel_symbols

PROGRAMS = Path(__file__).parent / "programs"
KMOD = PROGRAMS / "names_kmod.c"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
# every call is one of the name's own function: no builtin, no inline of a header
PLAIN = "-O1 -fno-builtin -D__NO_INLINE__"
NOPIE = ("-no-pie", "-fno-pie")
CALLS = 52  # names.c's; some are of two functions
KERNEL_CALLS = 32  # names_kmod.c's

# name: (source, flags of the linker, flags of the compiler, more words of kbridge build)
BUILDS: Mapping[str, tuple[str, str, str, Sequence[str]]] = {
    "lazy": ("names.c", "-Wl,-z,lazy", "", ()),
    "now": ("names.c", "-Wl,-z,now", "", ("--code", "kernel")),
    "nopie": ("names.c", f"{NOPIE[0]} -Wl,-z,lazy", NOPIE[1], ()),
    "nopie-now": ("names.c", f"{NOPIE[0]} -Wl,-z,now", NOPIE[1], ()),
    "noplt": ("names.c", "", "-fno-plt", ()),
    "script": ("names.c", "-Wl,-z,lazy", "", ("--link", "script")),
    "script-nopie": ("names.c", NOPIE[0], NOPIE[1], ("--link", "script", "--code", "kernel")),
    "cxx": ("names_cxx.cc", "-Wl,-z,lazy", "", ()),
    "cxx-now": ("names_cxx.cc", "-Wl,-z,now", "", ()),
    "own": ("names_own.c", "-rdynamic", "", ()),
    "names.so": ("names.c", "-Wl,-z,lazy", "-DNAMES_LIBRARY", ("--shared",)),
    "now.so": ("names.c", "-Wl,-z,now", "-DNAMES_LIBRARY", ("--shared",)),
}
OWN = {"memcpy": slots.PROGRAM, "strpbrk": slots.PROGRAM}
BEFORE = {"strlen": "before.so"}


def test_the_names_are_those_that_both_have() -> None:
    with Path("/lib/x86_64-linux-gnu/libc.so.6").open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".dynsym")
        libc = {s.name for s in table.iter_symbols() if s["st_shndx"] != "SHN_UNDEF"}
    functions, data = set(slots.names()), set(slots.names("DATA"))
    assert len(functions) >= 50
    for release in KERNELS:
        kernel = kernel_symbols.cached(images.find(release).vmlinuz)
        both = {s.name: s.is_function for s in kernel.resolvable() if s.name in libc}
        assert functions | data <= set(both)
        assert all(both[name] for name in ("memcpy", "strlen", "snprintf", "sscanf"))


def built(kbridge: Kbridge, folder: Path, release: str) -> None:
    for name, (source, ldflags, cflags, words) in BUILDS.items():
        how = [f"--cflags={PLAIN} {cflags}", f"--ldflags={ldflags}", *words, "--kernel", release]
        done = kbridge("build", PROGRAMS / source, "--kmod", KMOD, "-o", folder / name, *how)
        assert done.returncode == 0, done.stderr
    alone = ["-fPIC", "-shared", "-nostdlib"]
    for name, flags in (("load", []), ("plain", []), ("later.so", alone), ("before.so", alone)):
        source = PROGRAMS / f"names_{name.removesuffix('.so')}.c"
        command = ["gcc", *PLAIN.split(), "-fno-stack-protector", *flags, source, "-o"]
        subprocess.run([*command, folder / name], check=True)
    (folder / "plain").rename(folder / "names_plain")


def python_files() -> list[Path]:
    """The interpreter with what `import ctypes` needs."""
    code = (
        "import ctypes, sys\n"
        "for one in list(sys.modules.values()):\n"
        "    print(getattr(one, '__file__', None) or '')\n"
    )
    python = Path(sys.executable).resolve()
    words = [python, "-I", "-S", "-c", code]
    shown = subprocess.run(words, check=True, capture_output=True, text=True)
    return [python, *(Path(line) for line in shown.stdout.splitlines() if line)]


def libraries(files: Sequence[Path]) -> set[Path]:
    """What ldd finds for them, ld.so included; ours are made for each boot."""
    found = set()
    for file in files:
        listed = subprocess.run(["ldd", file], capture_output=True, text=True, check=False)
        words = [word for line in listed.stdout.splitlines() for word in line.split()]
        found |= {Path(word) for word in words if word.startswith("/")}
    return found


def commands() -> dict[str, str]:
    """What runs in the guest, by a label."""
    programs = [name for name in BUILDS if not name.endswith(".so")]
    lines = {name: f"./{name}" for name in programs}
    lines |= {"bind now by environment": "LD_BIND_NOW=1 ./lazy"}
    ways = {"dlopen": ("names.so", "l n lg ng ld dn"), "dlopen now.so": ("now.so", "l lg")}
    for label, (library, hows) in ways.items():
        for how in hows.split():
            lines[f"{label} {how}"] = f"./load ./{library} {how} ./later.so"
    preload = "NAMES_AT_END=1 LD_PRELOAD=$PWD/names.so"
    lines["preload"] = f"{preload} ./names_plain"
    lines["preload and bind now"] = f"LD_BIND_NOW=1 {preload} ./names_plain"
    lines["preload under cat"] = f"{preload} {shutil.which('cat')} /dev/null"
    python = f"{Path(sys.executable).resolve()} -I -S -B"
    for mode in ("LOCAL", "GLOBAL"):
        load = f'ctypes.CDLL("./names.so", ctypes.RTLD_{mode}).names_check()'
        lines[f"python {mode}"] = f"{python} -c 'import ctypes; {load}'"
    lines["preload under python"] = f"{preload} {python} -c 'import ctypes'"
    for name in ("lazy", "now"):
        lines[f"unversioned library: {name}"] = f"LD_BIND_NOW=1 LD_PRELOAD=./later.so ./{name}"
        lines[f"others come first: {name}"] = f"LD_PRELOAD=./before.so ./{name}"
    lines["others come first: dlopen"] = f"LD_PRELOAD=./before.so {lines['dlopen l']}"
    return lines


def run(kbridge: Kbridge, folder: Path, release: str, log: Path) -> tuple[dict[str, str], str]:
    """What each command printed, and the guest's /proc/kallsyms."""
    made = [path for path in folder.iterdir() if path.is_file()]
    python = python_files()
    binaries = [path for path in python if path.suffix != ".py"] + made
    binaries.append(Path(shutil.which("cat") or ""))
    files = {*python, *binaries, *libraries(binaries)}
    share = [word for file in sorted(files) for word in ("--file", f"{file}:{file}")]
    lines = [f"cd {folder}"]
    lines += [f"echo '== {label}'; {line}; echo status $?" for label, line in commands().items()]
    lines += ["echo '== kallsyms'", "cat /proc/kallsyms"]
    words = ["run", "--kernel", release, "--memory", "1024", "--timeout", "120", *share]
    shell = ["/bin/busybox", "sh", "-c", "\n".join(lines)]
    done = kbridge(*words, *shell, env=console_log_environment(log))
    assert done.returncode == 0, done.stderr
    parts = [part.partition("\n") for part in f"\n{done.stdout}".split("\n== ")[1:]]
    said = {label: text for label, _, text in parts}
    return said, said.pop("kallsyms")


def judge(label: str, text: str, kernel: Mapping[str, int]) -> slots.Report:
    """Assert that nothing is wrong in what one command printed."""
    report = slots.read(text)
    own = OWN if label == "own" else BEFORE if label.startswith("others") else {}
    wrong = slots.Judge(kernel, own).complaints(report)
    assert not wrong, "\n".join([label, *wrong[:20]])
    assert report.other[-1].endswith("status 0"), text[-2000:]
    both = {*slots.names(), *slots.names("DATA")}
    for seen in (*report.kernel.values(), report.address, report.lookup):
        assert set(seen) == both, label
    assert f"calls {CALLS} kernel {KERNEL_CALLS} text schedule" in report.other
    bound = {slot.name for slot in report.after.slots if slot.version == slots.KERNEL}
    # of a linker script's program the words are no slots: the kmod's own view is all there is
    assert bound >= (both if "script" not in label else set()), label
    assert bound or "script" in label
    return report


@pytest.mark.parametrize("release", KERNELS)
def test_every_slot(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    folder, log = tmp_path / "names", tmp_path / "console"
    folder.mkdir()
    built(kbridge, folder, release)
    said, table = run(kbridge, folder, release, log)
    kernel = slots.kallsyms(table)
    assert set(said) == set(commands())
    reports = {label: judge(label, text, kernel) for label, text in said.items()}
    for label, report in reports.items():
        unbound = report.before.unbound(slots.PROGRAM)
        if label in ("lazy", "nopie", "script", "cxx"):
            assert len(unbound) > 40, f"{label}: is not lazy"
            # a child has called these
            assert report.after.unbound(slots.PROGRAM) == {"abort", "error"}
        elif label in ("now", "nopie-now", "noplt", "cxx-now", "bind now by environment"):
            assert not unbound, label
    assert len(reports["dlopen l"].before.unbound("names.so")) > 40
    assert not reports["dlopen n"].before.unbound("names.so")
    assert any("plain right" in line for line in reports["preload"].other)
    assert any("said by C++ abc3" in line for line in reports["cxx"].other)
    assert not complaints(log)
