# SPDX-License-Identifier: GPL-2.0-only
"""Which compiler it is, what Kbuild is told for clang, and what is said of a difference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kbridge.errors import KbridgeError, UsageError
from kbridge.kernels import compiler
from kbridge.kernels.compiler import Compiler
from kbridge.kernels.target import KernelTarget

GCC = "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"
CLANG = "Debian clang version 16.0.6 (15~deb12u1)"


@pytest.fixture
def kernel(tmp_path: Path) -> KernelTarget:
    return built(tmp_path, GCC)


def built(folder: Path, by: str, *options: str) -> KernelTarget:
    lines = [f'CONFIG_CC_VERSION_TEXT="{by}"', *(f"CONFIG_{option}=y" for option in options)]
    (folder / ".config").write_text("# a comment\n" + "\n".join(lines) + "\n")
    compiler.compare.cache_clear()
    return KernelTarget("6.1.0-test", folder)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (GCC, Compiler("gcc", "12.2.0")),
        ("x86_64-linux-gnu-gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0", Compiler("gcc", "12.2.0")),
        ("gcc (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0", Compiler("gcc", "11.4.0")),
        ("gcc (GCC) 13.2.1 20230801 (Red Hat 13.2.1-6)", Compiler("gcc", "13.2.1")),
        (CLANG, Compiler("clang", "16.0.6")),
        ("Ubuntu clang version 18.1.3 (1ubuntu1), LLD 18.1.3", Compiler("clang", "18.1.3")),
        ("tcc version 0.9.27", None),
        ("", None),
    ],
)
def test_versions(text: str, found: Compiler | None) -> None:
    assert compiler.parse(text) == found


def test_the_kernels_own(tmp_path: Path, kernel: KernelTarget) -> None:
    assert str(compiler.of_kernel(kernel)) == "gcc 12.2.0"
    (tmp_path / "include/config").mkdir(parents=True)
    (tmp_path / "include/config/auto.conf").write_text(f'CONFIG_CC_VERSION_TEXT="{CLANG}"\n')
    assert str(compiler.of_kernel(kernel)) == "clang 16.0.6"
    assert compiler.of_kernel(KernelTarget("none", tmp_path / "none")) is None


@pytest.mark.parametrize(
    ("llvm", "name"),
    [("1", "clang"), ("-16", "clang-16"), ("/opt/llvm/bin/", "/opt/llvm/bin/clang"), ("", None)],
)
def test_llvm_names_clang_as_kbuild_does(
    monkeypatch: pytest.MonkeyPatch, kernel: KernelTarget, llvm: str, name: str | None
) -> None:
    monkeypatch.setenv("LLVM", llvm)
    assert compiler.asked_for() == name
    words = compiler.make_variables(kernel)
    assert words[:1] == ([f"CC={name}"] if name else [])
    assert ("CONFIG_CC_IS_CLANG=y" in words) == bool(name)


def test_a_kernel_of_clang_needs_no_more_than_the_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLVM", "1")
    assert compiler.make_variables(built(tmp_path, CLANG)) == ["CC=clang"]


def test_kcflags_of_the_caller_stay(monkeypatch: pytest.MonkeyPatch, kernel: KernelTarget) -> None:
    monkeypatch.setenv("LLVM", "1")
    monkeypatch.setenv("KCFLAGS", "-DMINE")
    (flags,) = [word for word in compiler.make_variables(kernel) if word.startswith("KCFLAGS=")]
    assert flags.startswith("KCFLAGS=-DMINE -W")


@pytest.mark.parametrize(
    ("kernel_by", "kmod_by", "says"),
    [
        (GCC, GCC, ""),
        (GCC, "x86_64-linux-gnu-gcc-12 (Debian 12.2.0-14) 12.2.0", ""),
        (GCC, "gcc-12 (Debian 12.4.0-1) 12.4.0", ""),
        (GCC, "gcc (Debian 13.2.0-1) 13.2.0", "built with gcc 12.2.0, .* with gcc 13.2.0: .*"),
        (GCC, CLANG, "built with gcc 12.2.0, .* with clang 16.0.6: .* use gcc 12"),
        (CLANG, GCC, "built with clang 16.0.6, .* with gcc 12.2.0: .* use clang 16"),
        ("", GCC, ""),
    ],
)
def test_a_difference_is_said_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kernel_by: str,
    kmod_by: str,
    says: str,
) -> None:
    kernel = built(tmp_path, kernel_by)
    compiler.compare(kernel, kmod_by)
    compiler.compare(kernel, kmod_by)
    said = capsys.readouterr().err
    if not says:
        assert said == ""
    else:
        assert said.count("\n") == 1
        assert re.search(says, said), said


@pytest.mark.parametrize(
    ("by", "option", "other"),
    [
        (GCC, "RANDSTRUCT", CLANG),
        (GCC, "GCC_PLUGIN_RANDSTRUCT", CLANG),
        (CLANG, "CFI_CLANG", GCC),
        (CLANG, "RANDSTRUCT", GCC),
    ],
)
def test_what_binds_a_kernel_to_its_compiler_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, option: str, other: str
) -> None:
    kernel = built(tmp_path, by, option)
    with pytest.raises(KbridgeError, match=f"CONFIG_{option} "):
        compiler.compare(kernel, other)
    compiler.compare(kernel, by)
    if by == GCC:
        monkeypatch.setenv("LLVM", "1")
        with pytest.raises(KbridgeError, match=f"CONFIG_{option} .*clang cannot") as caught:
            compiler.make_variables(kernel)
        assert caught.value.hint == "use gcc 12.2.0: leave LLVM unset"


@pytest.mark.parametrize(
    ("given", "before"),
    [
        ("ccache gcc", ["ccache"]),
        ("ccache distcc gcc-12 -m64", ["ccache", "distcc"]),
        ("'/a folder/sccache' clang", ["/a folder/sccache"]),
        ("distcc", ["distcc"]),
        ("gcc", []),
        ("gcc -DX=ccache ccache", []),
        ("/usr/lib/ccache/gcc", []),
        ("", []),
    ],
)
def test_what_stands_before_the_compiler(
    monkeypatch: pytest.MonkeyPatch, given: str, before: list[str]
) -> None:
    monkeypatch.setenv("CC", given)
    assert compiler.launcher() == before


def test_a_compiler_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    assert compiler.from_environment("CXX", "g++") == ["g++"]
    monkeypatch.setenv("CXX", " ")
    assert compiler.from_environment("CXX", "g++") == ["g++"]
    monkeypatch.setenv("CXX", "ccache 'g++")
    with pytest.raises(UsageError, match="CXX=ccache 'g\\+\\+: No closing quotation"):
        compiler.from_environment("CXX", "g++")
