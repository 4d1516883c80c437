# SPDX-License-Identifier: GPL-2.0-only
"""The rules that Makefiles include, by the real make; a script that notes its words is kbridge."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from kbridge import makefile

# "pic SRC -o OBJ --depfile D": writes both, and what it was told to the end of the file `calls`
FAKE = """\
#!/bin/sh
here=$(dirname "$0")
printf '%s\\n' "${SHOW_CC:+CC=$CC }${ARCH:+ARCH=$ARCH }${LLVM:+LLVM=$LLVM }$*" >> "$here/calls"
verb=$1 source=$2
case $verb in
	cflags) cat "$here/flags"; exit $? ;;
	libs) cat "$here/stub"; echo -lm; exit ;;
	pkg-config-path) echo "$here/a folder"; exit ;;
esac
while [ $# -gt 0 ]; do
	case $1 in
		-o) output=$2 ;;
		--depfile) depfile=$2 ;;
	esac
	shift
done
mkdir -p "$(dirname "$output")"
[ ! -e "$here/fails" ] || exit 1
if [ "$depfile" ]; then
	named=$(printf %s "$output" | sed 's/ /\\\\ /g')
	printf '%s: shared.h\\nshared.h:\\n' "$named" > "$depfile"
fi
echo "$verb" > "$output"
"""
RULES = """\
app: $(KB_OBJS)
	cp kmods.kb.o app && echo $(KB_LIBS) >> app
clean:
	rm -f app $(KB_CLEAN)
"""


class Project:
    """A folder, with a space in its name, and a Makefile that includes the rules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "my project"
        self.tool = folder / "a tool" / "kbridge's #1 $tool"
        for made in (self.folder, self.tool.parent):
            made.mkdir()
        self.tool.write_text(FAKE)
        self.tool.chmod(0o755)
        self.flags("-O2")
        self.stub("")
        self.rules = self.tool.parent / makefile.NAME
        self.rules.write_text(makefile.text([str(self.tool)]))
        for name in ("one.c", "two.c", "shared.h"):
            self.write(name, "")
        self.start = set(self.names())
        self.makefile("KB_KMODS := one.c two.c", "INCLUDE", RULES)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(exist_ok=True, parents=True)
        (self.folder / name).write_text(text)

    def flags(self, text: str) -> None:
        (self.tool.parent / "flags").write_text(text)

    def stub(self, text: str) -> None:
        """What `kbridge libs` prints ahead of its words; of link=script too."""
        (self.tool.parent / "stub").write_text(text)

    def makefile(self, *parts: str) -> None:
        """INCLUDE stands for the include."""
        include = f"include {makefile.as_include(self.rules)}"
        self.write("Makefile", "\n".join(parts).replace("INCLUDE", include) + "\n")

    def make(self, *words: str, status: int = 0, **environment: str) -> str:
        """What make and its commands print."""
        left_out = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "KDIR", "ARCH", "LLVM", "CROSS_COMPILE")
        env = {name: value for name, value in os.environ.items() if name not in left_out}
        done = subprocess.run(
            ["make", *words],
            cwd=self.folder,
            env={**env, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def calls(self) -> list[str]:
        """What kbridge was asked to make since the last time."""
        file = self.tool.parent / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.write_text("")
        return [line for line in lines if " -o " in line]

    def made(self, *words: str) -> list[str]:
        """The files that are made, by name, in one more run of make."""
        self.calls()
        self.make(*words)
        return sorted(shlex.split(line.partition(" -o ")[2])[0] for line in self.calls())

    def names(self) -> list[str]:
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        return sorted(str(path.relative_to(self.folder)) for path in found)

    def later(self, name: str) -> None:
        """Give a file a time that is later than that of all others."""
        newest = max(path.stat().st_mtime_ns for path in self.folder.rglob("*"))
        os.utime(self.folder / name, ns=(newest + 1, newest + 1))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


ALL = ["kmods.kb.o", "one.kmod.o", "two.kmod.o"]


@pytest.mark.parametrize(
    "parts",
    [
        ("KB_KMODS := one.c two.c", "INCLUDE", RULES),
        ("INCLUDE", "KB_KMODS = one.c two.c", RULES),
        ("INCLUDE", RULES, "KB_KMODS := ./one.c .//two.c"),
        ("KB_KMODS := one.c", "INCLUDE", RULES, "KB_KMODS += two.c", "INCLUDE"),
        ("export", "KB_KMODS := one.c two.c", "INCLUDE", RULES),
    ],
)
def test_the_include_is_at_home_everywhere(project: Project, parts: Sequence[str]) -> None:
    project.makefile(*parts)
    assert project.made("-j3") == ALL  # app is the default goal
    assert (project.folder / "app").read_text() == "pack\n-lm\n"
    assert project.make() == "make: 'app' is up to date.\n"
    assert project.made() == []


def test_no_goal_is_taken(project: Project) -> None:
    """Whether the first rule comes after the include, or before; with and without old records."""
    for parts in (("INCLUDE", "all: ; @echo mine"), ("all: ; @echo mine", "INCLUDE")):
        project.makefile("KB_KMODS := one.c", *parts, RULES)
        assert project.make() == "mine\n"
        project.make("app")
        assert project.make() == "mine\n"
    project.makefile("KB_KMODS := one.c", "INCLUDE")
    assert "No targets" in project.make(status=2)


def test_only_what_changed_is_made_again(project: Project) -> None:
    project.make()
    for changed, made in (
        ("one.c", ["kmods.kb.o", "one.kmod.o"]),
        ("shared.h", ALL),
        ("two.kmod.o", ["kmods.kb.o"]),
    ):
        project.later(changed)
        assert project.made() == made
        assert project.made() == []
    (project.folder / "shared.h").unlink()
    assert project.made() == ALL


@pytest.mark.parametrize(
    ("word", "made"),
    [
        ("KB_KCFLAGS=-DX='a  b' \"$$#c\"", ALL),
        ("KB_INCLUDES=-I.", ALL),
        ("CPPFLAGS=-Iinclude -DNOT", ALL),
        ("CFLAGS=-O2 -isystem 'a b'", []),
        ("KB_CODE=kernel", ALL),
        ("KB_DEBUG=1", ALL),
        ("KB_NAME=other", ALL),
        ("KERNEL=6.1.0", ALL),
        ("KDIR=/usr/src/some where", ALL),
        ("LLVM=-16", ALL),
        ("ARCH=x86_64", ALL),
        ("KB_LINK=script", ["kmods.kb.o"]),
        ("KB_PACKFLAGS=--allow stack", ["kmods.kb.o"]),
        ("KB_KMODS=one.c", ["kmods.kb.o"]),
        ("CC=other", []),
        ("O=.", []),
    ],
)
def test_other_words_make_it_again(project: Project, word: str, made: list[str]) -> None:
    project.make()
    assert project.made(word) == made
    assert project.made(word) == []
    project.calls()
    project.make()
    assert len(project.calls()) == len(made)


def test_other_flags_of_the_kernel_make_it_again(project: Project) -> None:
    """Another default kernel, or another configuration."""
    project.make()
    project.flags("-O2 -DOTHER")
    assert project.made() == ALL
    assert project.made() == []


@pytest.mark.parametrize("link", ["libkernel", "script"])
def test_another_image_of_the_kernel_is_packed_again(project: Project, link: str) -> None:
    how = f"KB_LINK={link}"
    project.make(how)
    project.stub("other/")
    assert project.made(how) == ["kmods.kb.o"]
    assert project.made(how) == []


def test_another_kbridge_makes_it_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.make()
    monkeypatch.setattr(makefile, "__version__", "7.8.9")
    project.rules.write_text(makefile.text([str(project.tool)]))
    assert project.made() == ALL
    assert project.made() == []


def test_words_arrive(project: Project) -> None:
    project.make("LLVM=1", "KDIR=/a b", "KB_KCFLAGS=-DX='a b'", "CPPFLAGS=-I inc -DY")
    calls = project.calls()
    assert calls[0] == (
        "LLVM=1 pic one.c -o one.kmod.o --depfile .kb.one.kmod.o.d --kdir=/a b --code pic "
        "--mitigations keep -Iinc --kcflags=-DX='a b' --name=one -q"
    )
    assert "--name=one" in calls[1]  # KBUILD_MODNAME is that of the program
    assert calls[2].startswith("LLVM=1 pack one.kmod.o two.kmod.o -o kmods.kb.o --kdir=/a b ")


def test_a_kdir_of_the_environment(project: Project) -> None:
    """KERNEL comes first, as for kbridge itself, which refuses both."""
    project.make(KDIR="/of/another")
    assert "--kdir=/of/another" in project.calls()[0]
    project.make("KERNEL=6.1.0", KDIR="/of/another")
    (call, *_) = project.calls()
    assert "--kernel=6.1.0" in call
    assert "--kdir" not in call
    project.make("KERNEL=6.1.0", "KDIR=/mine")
    assert "--kernel=6.1.0 --kdir=/mine" in project.calls()[0]


def test_the_compiler_of_the_makefile(project: Project) -> None:
    """Its ccache is the kmod's, too; a default is not."""
    project.makefile("CC := ccache gcc -DX='a b'", "KB_KMODS := one.c", "INCLUDE", RULES)
    project.make(SHOW_CC="1")
    assert project.calls()[0].startswith("CC=ccache gcc -DX='a b' pic one.c ")
    project.makefile("KB_KMODS := two.c", "INCLUDE", RULES)
    project.make(SHOW_CC="1", CC="")
    assert project.calls()[0].startswith("CC= pic two.c ")


@pytest.mark.parametrize("out", ["", "out", "./out", ".//out/", "./", "my out/", "/ABSOLUTE out"])
def test_clean_leaves_nothing(project: Project, tmp_path: Path, out: str) -> None:
    """Also of sources that are no longer named, and of those outside."""
    (tmp_path / "outside.c").write_text("")
    project.write("sub/in.S", "")
    project.write("my own.c", "")
    out = out.replace("/ABSOLUTE", str(tmp_path / "absolute"))
    sources = f"one.c ../outside.c sub/in.S my\\ own.c {tmp_path}/absolute.c"
    (tmp_path / "absolute.c").write_text("")
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    project.makefile(f"KB_KMODS ?= {sources}", "INCLUDE", RULES.replace("cp kmods.kb.o", ": >"))
    words = [f"O={out}"] if out else []
    assert len(project.made(*words)) == 6
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - set(before)
    if out not in ("", "./"):
        inside = project.folder / out
        assert {path.name for path in made if inside not in path.parents} == {"app", "calls"}
    project.make("KB_KMODS=two.c", *words)
    project.make("KB_KMODS=two.c", "clean", *words)
    (tmp_path / "a tool/calls").unlink()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_what_is_said(project: Project) -> None:
    quiet = project.make("KB_KMODS=one.c")
    assert "  KBPIC   one.kmod.o\n  KBPACK  kmods.kb.o\n" in quiet
    assert "kb_" not in quiet
    tool = shlex.quote(str(project.tool))
    said = project.make("V=1", "KB_KMODS=two.c")
    assert f"{tool} pic 'two.c' -o 'two.kmod.o' --depfile '.kb.two.kmod.o.d' --code" in said
    assert [call.split()[-1] for call in project.calls()[-2:]] == ["-v", "-v"]
    assert "KBPIC" not in said
    assert not project.make("-s", "KB_KMODS=one.c two.c")
    assert project.make("-n", "KB_CODE=kernel").count(" pic ") == 2
    assert project.made() == []  # -n made nothing


def test_question(project: Project) -> None:
    assert not project.make("-q", status=1)
    project.make()
    assert not project.make("-q")
    assert not project.make("-q", "KB_CODE=kernel", status=1)


def test_warnings_of_make_are_the_users_own(project: Project) -> None:
    project.make("--warn-undefined-variables")
    said = project.make("--warn-undefined-variables", "clean")
    assert "kbridge.mk" not in said
    assert "kb_" not in said


def test_a_failure_is_tried_again(project: Project) -> None:
    project.make()
    before = project.names()
    (project.tool.parent / "fails").touch()
    project.make("KB_CODE=kernel", status=2)
    assert project.names() == before
    (project.tool.parent / "fails").unlink()
    assert project.made("KB_CODE=kernel") == ALL


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("KB_KMODS=",), "KB_KMODS names no kmod source.  Stop."),
        (("KB_KMODS=one.c none.c",), "No rule to make target 'none.c', needed by 'kmods.kb.o'."),
        (("KB_KMODS=one.h",), "one.h in KB_KMODS: kernel code is C (.c) or assembly (.S).  Stop."),
        (
            ("KB_KMODS=a/one.c a/one.S",),
            "a/one.c a/one.S would be one object: a/one.kmod.o.  Stop.",
        ),
        (("none.kmod.o",), "No rule to make target 'none.kmod.o'."),
    ],
)
def test_bad_input(project: Project, words: Sequence[str], says: str) -> None:
    for name in ("a/one.c", "a/one.S", "one.h"):
        project.write(name, "")
    assert says in project.make(*words, status=2)


def test_without_headers_nothing_is_compiled(project: Project) -> None:
    """kbridge says what is missing; make ends."""
    (project.tool.parent / "flags").unlink()
    said = project.make(status=2)
    assert "No such file" in said
    assert said.endswith("*** kbridge says above what is missing.  Stop.\n")
    assert project.calls() == []
    assert not project.make("clean", "-s")


def test_generated_sources_and_folders_of_sources(project: Project) -> None:
    """By the user's own rules, and by VPATH."""
    project.write("src/far.c", "")
    rules = "made.c: ; echo > $@\nVPATH := src"
    project.makefile("KB_KMODS := made.c far.c", "INCLUDE", RULES, rules)
    project.make("-j2")
    calls = project.calls()
    assert any(call.startswith("pic src/far.c -o far.kmod.o ") for call in calls)
    assert any(call.startswith("pic made.c -o made.kmod.o ") for call in calls)


def test_flags_of_the_app(project: Project) -> None:
    project.makefile("INCLUDE", "all: ; @printf '%s\\n' $(KB_CFLAGS)")
    assert project.make() == f"-isystem\n{project.tool.parent}/a folder/include\n"
    # in CFLAGS, it is the app's alone
    project.makefile("KB_KMODS := one.c", "INCLUDE", "CFLAGS += -Imine $(KB_CFLAGS)", RULES)
    project.make()
    (call, *_) = project.calls()
    assert "include" not in call
    assert " -Imine " in call
