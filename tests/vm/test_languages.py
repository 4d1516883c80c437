# SPDX-License-Identifier: GPL-2.0-only
"""The samples in other languages: each built by its own tool, all run in one boot a kernel.

The folders are copied to where a path has a space; only make cannot name such a one, so the kernel
sides (samples/languages/kmods) lie elsewhere.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Kbridge
from guest_shell import console_log_environment
from kernel_log import complaints

from kbridge import pkg_config
from kbridge.kernels import target

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "samples/languages"
CHECKS = ROOT / "tests/vm/programs/binding.py"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
PYTHON = Path(sys.executable).resolve()

BUILDS: Mapping[str, Sequence[str]] = {
    "c++": ("cmake -S . -B build", "cmake --build build"),
    "rust": ("cargo build --offline --release",),
    "go": ("go build -o build/ ./...",),
    "java": ("make", "make jre"),
    "assembly": ("make",),
}
# what a command line starts with; cr3 and fd_info come after it
PROGRAMS = {
    "c": "c/",
    "c++": "c++/build/",
    "rust": "rust/target/release/",
    "go": "go/build/",
    "java": "java/build/jre/bin/java -cp java/build -Djava.library.path=java/build ",
    "assembly": "assembly/build/",
    "python": f"{PYTHON} -S -B python/",
}
NAMES = {"java": ("Cr3", "FdInfo"), "python": ("cr3.py", "fd_info.py")}
CR3 = re.compile(r"privilege level: app 3, kmod 0\nCR3 = 0x[1-9a-f][0-9a-f]+000\nstatus 0\n")
FD_INFO = re.compile(
    r"the kernel says: pid (\d+) \(get[pt]id\(\) says \1\), file position 15 of fd (\d+)\n"
    r"(?:the kernel log says: .*For pid \1, FD \2 f_pos: 15\n)?status 0\n"
)

ELEVATED = re.compile(
    r"linux_banner at 0xffffffff[0-9a-f]{8}: Linux version (\S+)\nwritten by ksys_write\(\)\n"
    r"status 0\n"
)
BINDING = re.compile(r"(ok \w+\n){9}status 0\n")
FORMS = {"cr3": CR3, "fd_info": FD_INFO, "elevated": ELEVATED, "binding": BINDING}


def run(command: str, folder: Path, **environment: str) -> None:
    """A build step, which must have nothing to complain about."""
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"{folder.name}: {command}:\n{done.stdout}{done.stderr}"
    assert done.returncode == 0, said
    assert "warning" not in said.lower(), said


@dataclass(frozen=True)
class Built:
    """`folder` has a copy of each language's folder; `kmods` is what the programs load from, on
    every kernel, and `libraries` says where those of each are."""

    folder: Path
    kmods: Path
    libraries: Mapping[str, Path]


def kernel_sides(folder: Path, release: str) -> Path:
    out = folder / f"kmods-{release}"
    variables = (
        f"OUT={out}",
        f"KERNEL={release}",
        f"KBRIDGE={shlex.quote(sys.executable)} -m kbridge",
    )
    words = shlex.join(["make", "-C", str(SOURCES / "kmods"), *variables])
    run(words, folder)
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    base = tmp_path_factory.mktemp("languages")
    libraries = {release: kernel_sides(base, release) for release in KERNELS}
    folder, kmods = base / "with a space", libraries[KERNELS[-1]]
    artefacts = shutil.ignore_patterns("build", "target", "__pycache__")
    shutil.copytree(SOURCES, folder, ignore=artefacts)
    environment = {
        "PKG_CONFIG_PATH": f"{kmods}:{pkg_config.folder()}",
        "GOPROXY": "off",
    }
    for language, commands in BUILDS.items():
        for command in commands:
            run(command, folder / language, **environment)
    return Built(folder, kmods, libraries)


def c_samples(kbridge: Kbridge, folder: Path, release: str) -> None:
    for name in ("cr3", "fd_info"):
        source = ROOT / f"samples/{name}/{name}.c"
        words = ["build", source, "--kmod", source.with_name(f"{name}_kmod.c")]
        done = kbridge(*words, "-o", folder / name, "--kernel", release)
        assert done.returncode == 0, done.stderr


def python_files(modules: str) -> list[Path]:
    """The interpreter and whatever these imports load, compiled where it is."""
    code = (
        f"import {modules}, sys\n"
        "for one in list(sys.modules.values()):\n"
        "    for kind in ('__file__', '__cached__'):\n"
        "        print(getattr(one, kind, None) or '')\n"
    )
    words = [PYTHON, "-S", "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    files = [Path(line) for line in shown.stdout.splitlines() if line]
    return [PYTHON, *(file for file in files if file.is_file())]


def libraries(files: Iterable[Path]) -> set[Path]:
    """The machine's own libraries that these files need."""
    listed = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    return {Path(found) for found in re.findall(r"^\t(?:\S+ => )?(/\S+) \(", listed, re.MULTILINE)}


def shared(built: Built, release: str, c: Path) -> list[str]:
    """--file words: programs at their own places, the kernel's libraries where they are looked
    for."""
    folders = [built.folder / PROGRAMS[one] for one in ("c++", "rust", "go", "assembly")]
    programs = [folder / name for folder in folders for name in ("cr3", "fd_info")]
    jre = built.folder / "java/build/jre"
    python = python_files("ctypes, signal, tempfile, threading, kbridge.kernel")
    elf = [*programs, *jre.rglob("*.so"), jre / "bin/java", *python]
    needed = {one for one in libraries(elf) if not one.is_relative_to(built.folder.parent)}
    same = {
        CHECKS,
        *programs,
        *python,
        *needed,
        built.folder / "java/build",
        built.folder / "python",
    }
    pairs = [(path, path) for path in sorted(same)]
    pairs += [(built.libraries[release], built.kmods), (c, built.folder / "c")]
    return [word for host, guest in pairs for word in ("--file", f"{host}:{guest}")]


def commands() -> dict[str, str]:
    """By language and sample."""
    lines = {
        f"{language} {sample}": start + name
        for language, start in PROGRAMS.items()
        for sample, name in zip(
            ("cr3", "fd_info"), NAMES.get(language, ("cr3", "fd_info")), strict=True
        )
    }
    python = PROGRAMS["python"].removesuffix("python/")
    binding = shlex.quote(str(CHECKS))
    return {
        **lines,
        "python elevated": f"{python}python/elevated.py",
        "python binding": f"{python}{binding}",
    }


@pytest.mark.parametrize(
    "append", ["", pytest.param("pti=on preempt=full", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("release", KERNELS)
def test_the_samples_in_every_language(
    kbridge: Kbridge, built: Built, tmp_path: Path, release: str, append: str
) -> None:
    c_samples(kbridge, tmp_path / "c", release)
    lines = [f"cd {shlex.quote(str(built.folder))}"]
    lines += [f"export PYTHONPATH={shlex.quote(str(ROOT))} LD_LIBRARY_PATH={built.kmods}"]
    lines += [f"echo '== {label}'; {line}; echo status $?" for label, line in commands().items()]
    shell = ["/bin/busybox", "sh", "-c", "\n".join(lines)]
    how = ["--kernel", release, "--memory", "1024", "--timeout", "120", "--append", append]
    log = tmp_path / "console"
    files = shared(built, release, tmp_path / "c")
    done = kbridge("run", *how, *files, *shell, env=console_log_environment(log))
    assert done.returncode == 0, done.stderr
    parts = [part.partition("\n") for part in done.stdout.split("== ")[1:]]
    said = {label: text for label, _, text in parts}
    assert set(said) == set(commands()), done.stdout + done.stderr
    messages = log.read_text(errors="replace")
    for label, text in said.items():
        form = FORMS[label.split()[1]]
        found = form.fullmatch(text)
        assert found, f"{label}:\n{text}{done.stderr}"
        if form is FD_INFO:
            assert f"For pid {found[1]}, FD {found[2]} f_pos: 15" in messages, label
        if form is ELEVATED:
            assert found[1] == release
    assert not complaints(log)


def test_a_program_by_kbridge_run(kbridge: Kbridge, built: Built) -> None:
    """As the README says it: kbridge sees what kernel the library that it needs is for."""
    done = kbridge("run", "--timeout", "60", built.folder / "assembly/build/cr3")
    assert CR3.fullmatch(done.stdout + "status 0\n"), done.stdout + done.stderr


def masked(text: str) -> str:
    """Without what is of one boot or one kernel, and what kbridge has to do first."""
    text = re.sub(r"^kbridge: (?!built ).*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\b\d+\b", "N", re.sub(r"0x[0-9a-f]+|\d+\.\d+\.\S+", "N", text))


@pytest.mark.slow
def test_the_readme(tmp_path: Path) -> None:
    """Its commands, in one shell, print what it shows."""
    artefacts = shutil.ignore_patterns("build", "target", "__pycache__")
    shutil.copytree(ROOT / "samples", tmp_path / "samples", ignore=artefacts)
    (tmp_path / "kbridge").symlink_to(ROOT / "kbridge")
    shown = "".join(
        re.findall(r"^```\n(.*?)^```$", (SOURCES / "README.md").read_text(), re.M | re.S)
    )
    lines = [line for line in shown.splitlines() if line.startswith("$ ")]
    script = "\n".join(f"echo {shlex.quote(line)}; {line[2:]}" for line in lines)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path / "samples/languages",
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert masked(done.stdout) == masked(shown)
