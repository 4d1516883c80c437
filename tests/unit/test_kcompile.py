# SPDX-License-Identifier: GPL-2.0-only
"""The commands that the PIC pass is made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kbridge import kcompile, options
from kbridge.errors import CommandError
from kbridge.kernels.kbuild import KbuildFlags

FLAGS = KbuildFlags(
    release="6.1.0-test",
    kdir="/kdir",
    compiler="gcc-12 1 2",
    compile=[
        "gcc-12", "-nostdinc", "-I/kdir/include", "-include", "/kdir/kconfig.h", "-D__KERNEL__",
        "-fno-PIE", "-mcmodel=kernel", "-pg", "-mfentry", "-mrecord-mcount", "-DCC_USING_FENTRY",
        "-mindirect-branch=thunk-extern", "-fcf-protection=branch", "-fstack-protector-strong",
        "-O2", "-DMODULE",
    ],
    link=["ld", "-r"],
    assemble=["gcc-12", "-D__KERNEL__", "-D__ASSEMBLY__", "-DMODULE"],
    objtool=["/kdir/objtool", "--orc"],
    objtool_on_link=False,
)  # fmt: skip


def steps(code: str, name: str = "src/my-mod.c", **how: object) -> kcompile.Steps:
    extra, removed = how.pop("extra", ()), how.pop("removed", ())
    source = kcompile.Source(Path(name), extra, removed)  # type: ignore[arg-type]
    return kcompile.source_steps(
        FLAGS,
        source,
        Path("out"),
        module="my_app",
        code=code,
        **how,  # type: ignore[arg-type]
    )


def test_pic_is_the_kernels_flags_but_pic() -> None:
    compile_, objtool = steps("pic").commands
    assert compile_[0] == "gcc-12"
    assert {"-fPIC", "-c", "-I/kdir/include", "-D__KERNEL__", "src/my-mod.c"} <= set(compile_)
    assert not {"-mcmodel=kernel", "-fno-PIE", "-pg", "-mfentry"} & set(compile_)
    assert objtool == ["/kdir/objtool", "--orc", "out/my-mod.o"]


def test_pic_shows_the_source_what_kbuild_would() -> None:
    compile_ = steps("pic").commands[0]
    assert compile_.index("-U__PIC__") > compile_.index("-fPIC")


def test_pic_keeps_mitigations_and_ibt() -> None:
    compile_ = steps("pic").commands[0]
    assert "-mindirect-branch=thunk-extern" in compile_
    assert "-fcf-protection=branch" in compile_


def test_mitigations_can_be_dropped_but_not_ibt() -> None:
    checked = replace(
        FLAGS, objtool=["/kdir/objtool", "--orc", "--retpoline", "--rethunk", "--sls"]
    )
    less = kcompile.without_mitigations(checked)
    assert "-mindirect-branch=thunk-extern" not in less.compile
    assert "-fcf-protection=branch" in less.compile
    assert less.objtool == ["/kdir/objtool", "--orc"]
    assert less.fingerprint != FLAGS.fingerprint


def test_without_a_debugger_no_locations() -> None:
    assert "-fno-var-tracking" in kcompile.without_locations(FLAGS).compile
    clang = replace(FLAGS, version="Debian clang version 16.0.6")
    assert kcompile.without_locations(clang) is clang


def test_pic_keeps_the_stack_protector_in_the_kernels_place() -> None:
    compile_ = steps("pic").commands[0]
    assert "-fstack-protector-strong" in compile_
    assert "-mstack-protector-guard-reg=gs" in compile_


def test_the_hidden_visibility_header_comes_before_all_others() -> None:
    compile_ = steps("pic").commands[0]
    first = compile_.index("-include")
    assert compile_[first + 1].endswith("kernel/pic.h")
    assert compile_.index("/kdir/kconfig.h") > first


def test_kernel_code_is_kbuilds_own_command() -> None:
    compile_, _ = steps("kernel").commands
    assert {"-mcmodel=kernel", "-pg", "-mfentry"} <= set(compile_)
    assert "-fPIC" not in compile_


@pytest.mark.parametrize("code", options.CODE_MODELS)
def test_names_and_user_flags(code: str) -> None:
    made = steps(code, include=[Path("my headers")], extra=["-DX=1"], removed=["-O2"])
    first = made.commands[0]
    assert '-DKBUILD_MODNAME="my_app"' in first
    assert '-DKBUILD_BASENAME="my_mod"' in first
    assert "-Imy headers" in first
    assert "-DX=1" in first
    assert "-O2" not in first
    assert made.object == Path("out/my-mod.o")


def test_a_source_is_no_option() -> None:
    assert steps("pic", "-dash.c").commands[0][-1] == "./-dash.c"


@pytest.mark.parametrize("code", options.CODE_MODELS)
def test_assembly_has_flags_of_its_own(code: str) -> None:
    command = steps(code, "src/fast.S").commands[0]
    assert {"-D__ASSEMBLY__", '-DKBUILD_MODNAME="my_app"'} <= set(command)
    assert not {"-mcmodel=kernel", "-fPIC", "-mindirect-branch=thunk-extern"} & set(command)


def test_objtool_works_where_kbuild_has_it_work() -> None:
    late = replace(FLAGS, objtool_on_link=True)
    one = kcompile.source_steps(late, kcompile.Source(Path("a.c")), Path("out"), module="m")
    assert not any("objtool" in word for command in one.commands for word in command)
    join = kcompile.join_steps(late, [one.object], Path("out/joined.o"))
    assert join == [
        ["ld", "-r", "-o", "out/joined.o", "out/a.o"],
        ["/kdir/objtool", "--orc", "out/joined.o"],
    ]


@pytest.mark.parametrize(
    ("stderr", "hint"),
    [
        ("k.c:1:10: fatal error: stdio.h: No such file or directory", "stdio.h is not one of"),
        ("k.c:1:10: fatal error: stdio.h: No such file or directory", "not printf()"),
        ("error: implicit declaration of function \u2018printf\u2019 [-Werror]", "not printf()"),
        ("error: call to undeclared library function 'printf' with type", "not printf()"),
        ("error: implicit declaration of function \u2018sprintf\u2019 [-Werror]", "words above"),
        ("error: impossible constraint in 'asm'", "code=kernel"),
    ],
)
def test_hints_for_what_compilers_say(stderr: str, hint: str) -> None:
    problem = kcompile.explain(CommandError("gcc failed", stderr=stderr), Path("k.c"))
    assert problem.message.startswith("k.c:")
    assert problem.hint is not None
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("stderr", "message", "hint"),
    [
        ("b.o: multiple definition of `init_module'; a.o", "module_init()", "leave it in one"),
        ("ld.lld: error: duplicate symbol: helper", "helper", "static in all but one"),
    ],
)
def test_what_two_kmod_sources_define(stderr: str, message: str, hint: str) -> None:
    problem = kcompile.explain_join(CommandError("ld failed", stderr=stderr))
    assert problem.message == f"several kmod sources define {message}"
    assert hint in str(problem.hint)


@pytest.mark.parametrize(
    ("name", "wanted"), [("my-app", "my_app"), ("a b", "a_b"), ("x", "x"), ("", "kmod")]
)
def test_module_names_are_identifiers(name: str, wanted: str) -> None:
    assert kcompile.module_name(name) == wanted
