# SPDX-License-Identifier: GPL-2.0-only
"""Everything that one can type, declared once: verbs, their words, options and exit statuses.

The command line, SCons, help, completions, man pages and the reference are made from these tables.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

CODE_MODELS = ("pic", "kernel")
LINK_MODES = ("libkernel", "script")
MITIGATIONS = ("keep", "drop")
BUILDS = ("make", "scons")
SHELLS = ("bash", "zsh", "fish")
SYMBOL_FORMATS = ("table", "kallsyms", "json")
# bytes: of 16 KiB, up to 1.4 are taken when a gate starts, and the rest is for what the kernel's
# functions and interrupts take (docs/kmod.md has the measurements)
STACK_LIMIT = 10 * 1024
# what kbridge refuses or warns of in a kmod, unless told otherwise: sections.py, residue.py and
# stack.py say why
REFUSED_CLASSES = (
    "constructor",
    "kernel-exit",
    "relocation",
    "section",
    "stack",
    "stack-unknown",
    "system-call",
    "user-segment",
)


@dataclass(frozen=True)
class Option:
    """One option.

    `flags`: on the command line of `verbs`, of which TOP is the command without a verb.
    `variable`: on the command line of scons, '' for none.  `kind`: str, path, folder, int (at
    least 1), flag, list and paths (may be given again; in SCons separated by commas), files (one
    or more words), words (one string, split as a shell would).  `required`: the verb cannot do
    without.
    """

    name: str
    help: str
    verbs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    variable: str = ""
    metavar: str = ""
    kind: str = "str"
    choices: tuple[str, ...] = ()
    default: str | int | None = None
    required: bool = False


@dataclass(frozen=True)
class Argument:
    """A word beside the options.  `count`: "" for one, ?, * or + as in a regular expression, rest
    for all that follows, options too.  `kind`: str or path.
    """

    name: str
    metavar: str
    help: str
    count: str = ""
    kind: str = "str"
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Example:
    """A line for a shell, and what it is for."""

    what: str
    line: str


@dataclass(frozen=True)
class Status:
    """What an exit status means, for `verbs`; 128+n stands for those that signals leave."""

    status: str
    meaning: str
    verbs: tuple[str, ...]


@dataclass(frozen=True)
class Verb:
    """A subcommand: what it does in a line, examples of its use, and its arguments.

    `runs`: its exit status is that of the program that it runs.  `more`: paragraphs for those
    who read on: its man page and the reference.
    """

    name: str
    group: str
    help: str
    examples: tuple[Example, ...]
    arguments: tuple[Argument, ...] = ()
    runs: bool = False
    more: tuple[str, ...] = ()


TOP = ""
GROUPS = {
    "build": "Build programs",
    "run": "Run them",
    "look": "Look at programs and kernels",
    "setup": "Set up",
}

_APP = Argument("app", "APP", "app source (.c, .cc, .S ...), object or library", "*", "path")
_PROGRAM = (
    Argument("program", "PROG", "a program of this machine"),
    Argument("args", "ARGS", "its words", "rest"),
)

VERBS = (
    Verb(
        "build",
        "build",
        "build a program or library of an app and a kmod",
        (
            Example(
                "a program of an app and a kmod",
                "kbridge build myapp.c --kmod mydynpriv.c -o build/myapp",
            ),
            Example(
                "a library of the kmod alone, for a certain kernel",
                "kbridge build --shared --kernel 6.1.0-56-cloud-amd64 --kmod k.c -o build/k.so",
            ),
            Example(
                "with what gdb needs to know of the kmod",
                "kbridge build -g myapp.c --kmod mydynpriv.c -o build/myapp",
            ),
        ),
        (_APP,),
        more=(
            "App sources see user headers and libc, kmod sources kernel headers and all symbols of "
            "the kernel. Each external function of the kmod gets a gate: the app calls it as any "
            "other function. What is written is read back and compared before it takes its place.",
            "The kernel is that of --kernel or --kdir, else the running one if its headers are "
            "installed, else the newest whose headers are.",
        ),
    ),
    Verb(
        "pic",
        "build",
        "compile one kmod source to one object, for build systems that call the stages alone",
        (
            Example(
                "and write its headers as a rule for make",
                "kbridge pic mydynpriv.c -o mydynpriv.o --depfile mydynpriv.d",
            ),
        ),
        (Argument("source", "SRC", "kmod source, .c or .S", kind="path"),),
    ),
    Verb(
        "pack",
        "build",
        "pack kmod objects, with gates, into one object that an ordinary link takes",
        (Example("all kmod objects of a program", "kbridge pack one.o other.o -o kmod.o"),),
        (Argument("objects", "OBJ", "kmod object, as kbridge pic makes it", "+", "path"),),
    ),
    Verb(
        "libs",
        "build",
        "print what a program with a packed object is linked with, on one line for a shell",
        (
            Example("a link", "cc app.o kmod.o $(kbridge libs) -o app"),
            Example("where a path in it has a blank", 'eval "cc app.o kmod.o $(kbridge libs)"'),
        ),
    ),
    Verb(
        "link",
        "build",
        "link app objects and kmod objects, packed or not, and read the result back",
        (Example("all that is to be done after compiling", "kbridge link app.o kmod.o -o app"),),
        (Argument("objects", "OBJ", "object of the app or the kmod, or library", "+", "path"),),
    ),
    Verb(
        "cflags",
        "build",
        "print the compiler flags of a kmod source, on one line for a shell",
        (
            Example(
                "what a kmod source is after preprocessing",
                'eval "gcc $(kbridge cflags --name mydynpriv) -E mydynpriv.c"',
            ),
        ),
    ),
    Verb(
        "gen-libkernel",
        "build",
        "write libkernel.so, every symbol of a kernel as a shared library",
        (
            Example(
                "of a kernel whose headers are here",
                "kbridge gen-libkernel --kernel 6.1.0-56-cloud-amd64 -o libkernel.so",
            ),
            Example(
                "of any kernel image",
                "kbridge gen-libkernel --symbols /boot/vmlinuz -o libkernel.so",
            ),
        ),
    ),
    Verb(
        "compile-commands",
        "build",
        "write compile_commands.json, by which editors (clangd) know app and kmod sources",
        (
            Example(
                "nothing is built",
                "kbridge compile-commands myapp.c --kmod mydynpriv.c",
            ),
        ),
        (_APP,),
    ),
    Verb(
        "containerfile",
        "build",
        "write a Containerfile that builds a program with kbridge in a container",
        (
            Example(
                "for a kernel that is not the running one",
                "kbridge containerfile myapp.c --kmod mydynpriv.c --kernel 6.1.0-56-amd64 "
                "-o Containerfile",
            ),
            Example(
                "build it at once; wheels/ is there, with kbridge and what it needs",
                "kbridge containerfile myapp.c --kmod mydynpriv.c | buildah build -t myapp -f - .",
            ),
        ),
        (_APP,),
    ),
    Verb(
        "pkg-config-path",
        "build",
        "print the folder with libkbridge.pc, for build tools of every language",
        (
            Example(
                "the linker's words for libkbridge",
                'PKG_CONFIG_PATH="$(kbridge pkg-config-path)" pkg-config --libs libkbridge',
            ),
            Example(
                "what a packed kmod is linked with",
                'PKG_CONFIG_PATH="$(kbridge pkg-config-path --libkernel)" '
                "pkg-config --libs libkbridge libkernel",
            ),
        ),
    ),
    Verb(
        "cmake-dir",
        "build",
        "print the folder with kbridgeConfig.cmake, for find_package(kbridge)",
        (
            Example(
                "a project that has find_package(kbridge) in its CMakeLists.txt",
                'cmake -S . -B build -Dkbridge_DIR="$(kbridge cmake-dir)"',
            ),
        ),
    ),
    Verb(
        "run",
        "run",
        "run a program where its kernel is: here, or in a throw-away virtual machine",
        (
            Example("what stands behind PROG is PROG's", "kbridge run build/myapp --help"),
            Example(
                "more processors and memory (MiB)",
                "kbridge run --cpus 4 --memory 1024 build/myapp",
            ),
            Example(
                "a container's program, with the container's files",
                "kbridge run --root rootfs /usr/local/bin/myapp",
            ),
            Example(
                "with this machine's files, in the guest",
                "kbridge run --root host python3 script.py",
            ),
        ),
        _PROGRAM,
        runs=True,
        more=(
            "On a machine whose running kernel is the program's and has kelevate loaded, the "
            "program runs there. Else a virtual machine boots that kernel, with a root of its "
            "own: the program, its libraries and what --file names. Its arguments, standard "
            "streams, working folder, environment and exit status are the program's.",
        ),
    ),
    Verb(
        "elevate",
        "run",
        "run an unmodified program in ring 0, on this machine (kelevate is loaded)",
        (
            Example(
                "and say in which ring timer interrupts found it",
                "kbridge elevate --count -- busybox ash -c 'echo hello'",
            ),
        ),
        _PROGRAM,
        runs=True,
    ),
    Verb(
        "kelevate",
        "run",
        "build the kelevate module for a kernel and print its path",
        (
            Example(
                "load it here, so that programs run on this kernel",
                'insmod "$(kbridge kelevate --kernel "$(uname -r)")"',
            ),
        ),
    ),
    Verb(
        "adaptors",
        "look",
        "list what the kernel needs for user code in ring 0, and what happens without it",
        (Example("as a table", "kbridge adaptors"),),
    ),
    Verb(
        "inspect",
        "look",
        "say what a program, object or module needs of the kernel, and does to it",
        (
            Example("a program", "kbridge inspect build/myapp"),
            Example("for other programs to read", "kbridge inspect --json build/myapp"),
        ),
        (Argument("inspected", "FILE", "an ELF file", kind="path"),),
    ),
    Verb(
        "kernels",
        "look",
        "say which kernels are here, what they lack, and which package brings it",
        (Example("which one is the default", "kbridge kernels"),),
    ),
    Verb(
        "symbols",
        "look",
        "list the symbols of a kernel, at the addresses that its image is linked for",
        (
            Example("those whose name fits a pattern", "kbridge symbols 'vfs_*'"),
            Example(
                "as that kernel's own /proc/kallsyms has them",
                "kbridge symbols --format kallsyms",
            ),
        ),
        (Argument("pattern", "PATTERN", "a name, or a quoted shell pattern: 'vfs_*'", "?"),),
    ),
    Verb(
        "symbol",
        "look",
        "say all about one symbol of a kernel: address, section, export, CRC, C declaration",
        (Example("a function", "kbridge symbol vfs_read"),),
        (Argument("symbol", "NAME", "the name of a symbol"),),
    ),
    Verb(
        "doctor",
        "setup",
        "try all that kbridge needs of this machine, and name the command that mends it",
        (
            Example("status 1 where something that is needed does not work", "kbridge doctor"),
            Example("for other programs to read", "kbridge doctor --json"),
        ),
    ),
    Verb(
        "new",
        "setup",
        "make a project of an app and a kmod that builds and runs at once",
        (
            Example("a folder with sources, Makefile, README", "kbridge new hello"),
            Example(
                "for a certain kernel", "kbridge new --kernel 6.1.0-56-cloud-amd64 projects/hello"
            ),
        ),
        (Argument("folder", "NAME", "its folder, whose last part names the program", kind="path"),),
    ),
    Verb(
        "completion",
        "setup",
        "print what a shell needs to complete kbridge's words",
        (
            Example("bash, in ~/.bashrc", 'eval "$(kbridge completion bash)"'),
            Example("zsh, in ~/.zshrc behind compinit", 'eval "$(kbridge completion zsh)"'),
            Example("fish", "kbridge completion fish > ~/.config/fish/completions/kbridge.fish"),
        ),
        (Argument("shell", "SHELL", "bash, zsh or fish", choices=SHELLS),),
    ),
    Verb(
        "man",
        "setup",
        "write the man pages",
        (
            Example(
                "where man finds them",
                "kbridge man -o ~/.local/share/man/man1 && man kbridge-build",
            ),
        ),
    ),
)

_ALL = (TOP, *(verb.name for verb in VERBS))
RUNNING = tuple(verb.name for verb in VERBS if verb.runs)
_OTHERS = tuple(verb.name for verb in VERBS if not verb.runs)

STATUSES = (
    Status("0", "it is done", _OTHERS),
    Status("1", "it failed; one line says why, another what to do next", _OTHERS),
    Status("2", "the request is wrong: an unknown option, a missing file, a bad value", _OTHERS),
    Status("123", "the guest's kernel panicked", ("run",)),
    Status("124", "PROG was not at its end when --timeout was over", ("run",)),
    Status("125", "a failure of kbridge's own, or a wrong request", RUNNING),
    Status("126", "PROG is there and cannot be executed", RUNNING),
    Status("127", "PROG is not there", RUNNING),
    Status("128+n", "signal n ended PROG (or, in other verbs, kbridge)", _ALL[1:]),
    Status("other", "PROG's own", RUNNING),
)

_COMPILING = ("build", "compile-commands", "cflags", "pic")
_PACKING = ("build", "pack", "link")
_TARGETED = (
    *("build", "compile-commands", "pic", "pack", "libs", "link", "cflags", "pkg-config-path"),
    *("run", "gen-libkernel", "kelevate", "inspect", "symbols", "symbol", "new", "doctor"),
)
_REPORTING = (
    *("build", "gen-libkernel", "kelevate", "cflags", "libs", "pkg-config-path", "cmake-dir"),
    *("inspect", "kernels", "symbols", "symbol", "adaptors", "doctor"),
)

OPTIONS = (
    Option("app", "app sources (user headers)", variable="app", kind="paths"),
    Option(
        "kmod",
        "kernel-style sources (kernel headers), .c or .S; may be given again",
        ("build", "compile-commands", "containerfile"),
        ("--kmod",),
        "kmod",
        "FILE",
        "paths",
    ),
    Option(
        "output", "the file to write", ("build", "pic", "pack", "link", "gen-libkernel"),
        ("-o",), "", "FILE", "path", required=True,
    ),
    Option(
        "words", "write the line to this file, which compilers take as @FILE", ("libs",), ("-o",),
        "", "FILE", "path",
    ),
    Option(
        "libkernel", "also the folder with libkernel.pc, for programs that name kernel symbols; it "
        "is of one kernel", ("pkg-config-path",), ("--libkernel",), kind="flag",
    ),
    Option(
        "depfile", "also write the headers that the object is made from, as a rule for make",
        ("pic",), ("--depfile",), "", "FILE", "path",
    ),
    Option(
        "build", "what builds it", ("new",), ("--build",), choices=BUILDS, default="make",
    ),
    Option(
        "pages", "the folder to write them to", ("man",), ("-o",), "", "DIR", "folder",
        required=True,
    ),
    Option(
        "database", "the file to write; what it says of other sources stays",
        ("compile-commands",), ("-o",), "", "FILE", "path", default="compile_commands.json",
    ),
    Option(
        "compiledb", "write compile_commands.json for editors, and build nothing",
        variable="compiledb", kind="flag",
    ),
    Option(
        "symbols",
        "take the symbols of this file, told by its content: vmlinuz, vmlinux, System.map, "
        "/proc/kallsyms or a copy of it, /proc/modules, Module.symvers",
        ("gen-libkernel",),
        ("--symbols",),
        "",
        "FILE",
        "path",
    ),
    Option(
        "modules",
        "also symbols of loaded modules, with --symbols /proc/kallsyms: right until they move",
        ("gen-libkernel",),
        ("--modules",),
        kind="flag",
    ),
    Option(
        "only-needed",
        "only the symbols that these objects, programs or libraries refer to",
        ("gen-libkernel",),
        ("--only-needed",),
        "",
        "OBJ",
        "files",
    ),
    Option(
        "script",
        "write a linker script for programs linked with -no-pie, instead of libraries",
        ("gen-libkernel",),
        ("--script",),
        kind="flag",
    ),
    Option(
        "verify",
        "also have readelf, pyelftools, LIEF and ld.so say what they see in the files (some 10 s)",
        ("gen-libkernel",),
        ("--verify",),
        kind="flag",
    ),
    Option(
        "timings",
        "say how long each stage took",
        ("gen-libkernel",),
        ("--timings",),
        kind="flag",
    ),
    Option(
        "symbol",
        "which of several symbols of one name is meant: NAME=ADDRESS, or NAME@FILE where a vmlinux "
        "with symbols is at hand; may be given again",
        (*_PACKING, "gen-libkernel"),
        ("--symbol",),
        "symbol",
        "NAME=ADDR",
        "list",
    ),
    Option(
        "name",
        "name of the program, by which the kernel's log and parameters know it (default: that of "
        "the first source, or of the file to write)",
        ("cflags", "pic", "pack", "link"), ("--name",), "name", "NAME",
    ),
    Option("out", "folder to build in", variable="out", kind="path", default="build"),
    Option(
        "shared", "make a shared library", ("build", "link"), ("--shared",), "shared", kind="flag"
    ),
    Option(
        "debug",
        "also write OUTPUT.kmod.debug: symbols and source lines of the kmod, for gdb (cflags, pic: "
        "with what that needs)",
        (*_PACKING, "cflags", "pic"),
        ("-g", "--debug"),
        "debug",
        kind="flag",
    ),
    Option(
        "code",
        "code model of the kmod: pic recompiles it with -fPIC, kernel is Kbuild's own object",
        _COMPILING,
        ("--code",),
        "code",
        choices=CODE_MODELS,
        default="pic",
    ),
    Option(
        "link",
        "how kernel names are bound: libkernel.so at run time, or a linker script",
        (*_PACKING, "libs"),
        ("--link",),
        "link",
        choices=LINK_MODES,
        default="libkernel",
    ),
    Option(
        "include",
        "folder with headers for app and kmod; may be given again",
        _COMPILING,
        ("-I",),
        "",
        "DIR",
        "paths",
    ),
    Option(
        "kcflags", "more compiler flags for the kmod", _COMPILING, ("--kcflags",), "kcflags",
        "FLAGS", "words",
    ),
    Option(
        "cflags", "more compiler flags for the app", ("build", "compile-commands"),
        ("--cflags",), "cflags", "FLAGS", "words",
    ),
    Option(
        "ldflags", "more flags for the link", ("build", "link"), ("--ldflags",), "ldflags",
        "FLAGS", "words",
    ),
    Option(
        "kernel",
        "kernel release, as uname -r says it (default: the running one if its headers are "
        "installed, else, and in a container, the newest installed)",
        tuple(verb for verb in _TARGETED if verb != "run"),
        ("--kernel",),
        "kernel",
        "RELEASE",
    ),
    Option(
        "kernel",
        "kernel release, as uname -r says it (default: the kernel that PROG was built for; for a "
        "PROG of none, as for kbridge build, and with --root the newest that it can boot)",
        ("run",), ("--kernel",), "", "RELEASE",
    ),
    Option(
        "kdir",
        "kernel header folder, as for make -C (default: $KDIR)",
        tuple(verb for verb in _TARGETED if verb not in ("run", "new")),
        ("--kdir",),
        "kdir",
        "DIR",
    ),
    Option(
        "kernel",
        "release of the kernel that the program is for (default: the newest here that kbridge run "
        "--root can boot)",
        ("containerfile",),
        ("--kernel",),
        "",
        "RELEASE",
    ),
    Option(
        "base",
        "image to build and to run in, with Debian's package manager",
        ("containerfile",),
        ("--base",),
        "",
        "IMAGE",
        default="docker.io/library/debian:bookworm-slim",
    ),
    Option(
        "containerfile",
        "the file to write (default: standard output)",
        ("containerfile",),
        ("-o",),
        "",
        "FILE",
        "path",
    ),
    Option(
        "kbuild",
        "a Kbuild file (or FILE:MODULE) whose objects and flags are the kmod's",
        ("build", "compile-commands"),
        ("--kbuild",),
        "kbuild",
        "FILE",
    ),
    Option(
        "mitigations",
        "drop leaves retpolines, return thunks and straight-line speculation barriers out of the "
        "kmod",
        (*_PACKING, "cflags", "pic"),
        ("--mitigations",),
        "mitigations",
        choices=MITIGATIONS,
        default="keep",
    ),
    Option(
        "allow",
        "do not refuse, or warn of, what is of this class in the kmod, one of "
        f"{', '.join(REFUSED_CLASSES)} (see docs/kmod.md); may be given again",
        _PACKING,
        ("--allow",),
        "allow",
        "CLASS",
        "list",
        choices=REFUSED_CLASSES,
    ),
    Option(
        "stack-limit",
        "how much of the kernel stack the kmod's functions may take, in bytes",
        _PACKING,
        ("--stack-limit",),
        "stack_limit",
        "BYTES",
        "int",
        default=STACK_LIMIT,
    ),
    Option("cpus", "processors of the machine", ("run",), ("--cpus",), "", "N", "int", default=2),
    Option(
        "memory", "memory of the machine, in MiB", ("run",), ("--memory",), "", "MIB", "int",
        default=512,
    ),
    Option(
        "timeout", "end the machine after this many seconds (status 124)", ("run",),
        ("--timeout",), "", "SECONDS", "int",
    ),
    Option(
        "append", "more words for the kernel's command line", ("run",), ("--append",), "",
        "WORDS", "words",
    ),
    Option(
        "file", "a file or folder of this machine that the program finds at GUEST; may be given "
        "again", ("run",), ("--file",), "", "HOST:GUEST", "list",
    ),
    Option(
        "module", "a kernel module to load first, with those that it needs; may be given again",
        ("run",), ("--module",), "", "NAME", "list",
    ),
    Option(
        "gdb", "let gdb attach to the machine: target remote :PORT", ("run",), ("--gdb",), "",
        "PORT", "int",
    ),
    Option(
        "fresh", "boot a machine for this run alone, where otherwise one goes on from the state "
        "that an earlier one was in when it had booted", ("run",), ("--fresh",), kind="flag",
    ),
    Option(
        "other-build", "run it on a kernel that it was not built for (the one that runs here, or "
        "--kernel), if every CRC and type that it uses is the same there", ("run",),
        ("--other-build",), kind="flag",
    ),
    Option(
        "elevate", "the whole program runs in ring 0, with its threads", ("run",),
        ("--elevate",), kind="flag",
    ),
    Option(
        "root", "a folder, as that of a container: the guest's root, in which PROG is a path; or "
        "host: this machine's (by virtme-ng). What is written there is gone with the guest "
        "(default: only PROG, its libraries, and what --file names)",
        ("run",), ("--root",), "", "FOLDER",
    ),
    Option(
        "inherit", "elevate the processes that it starts, too", ("run", "elevate"),
        ("--inherit",), kind="flag",
    ),
    Option(
        "without", "leave an adaptor out, to see what it prevents (kbridge adaptors lists them); "
        "may be given again", ("run", "elevate"), ("--without",), "", "ADAPTOR", "list",
    ),
    Option(
        "count", "say at the end in which ring timer interrupts found it", ("run", "elevate"),
        ("--count",), kind="flag",
    ),
    Option(
        "dry-run", "say what would be run, and run nothing", ("run",), ("--dry-run",), kind="flag"
    ),
    Option(
        "json", "print JSON instead of text; of files that are written, what and where they are",
        _REPORTING, ("--json",), kind="flag",
    ),
    Option(
        "all", "also symbols whose names have several meanings, so that no kmod can be linked "
        "against them", ("symbols",), ("--all",), kind="flag",
    ),
    Option(
        "format", "table (address, kallsyms' letter, type, how exported, name), kallsyms (as "
        "/proc/kallsyms), or a JSON list",
        ("symbols",), ("--format",), choices=SYMBOL_FORMATS, default="table",
    ),
    Option(
        "verbose",
        "print every command that is run, and (run) the kernel's messages",
        _ALL,
        ("-v", "--verbose"),
        kind="flag",
    ),
    Option("quiet", "print warnings and errors only", _ALL, ("-q", "--quiet"), kind="flag"),
    Option(
        "makefile", "print the path of the rules that a Makefile includes (docs/makefile.md)",
        (TOP,), ("--makefile",), kind="flag",
    ),
    Option("version", "print the version", (TOP,), ("--version",), kind="flag"),
    Option("v", "print whole commands (V=1)", variable="V", kind="flag"),
)  # fmt: skip


def sentence(text: str) -> str:
    """A help text as a sentence."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def value_of(option: Option) -> str:
    """What stands behind the flag; '' for nothing."""
    if option.kind == "flag":
        return ""
    value = option.metavar or option.name.upper()
    return f"{value} ..." if option.kind == "files" else value


def synopsis(verb: Verb) -> list[str]:
    """The words of a call: what can be left out in brackets, what can be many with dots."""
    words = ["[OPTION ...]"] if of_verb(verb.name) else []
    needed = [option for option in of_verb(verb.name) if option.required]
    words += [f"{option.flags[0]} {value_of(option)}".strip() for option in needed]
    shapes = {"": "{}", "?": "[{}]", "*": "[{} ...]", "+": "{} ...", "rest": "[{} ...]"}
    return [*words, *(shapes[one.count].format(one.metavar) for one in verb.arguments)]


def of_verb(verb: str) -> list[Option]:
    return [option for option in OPTIONS if verb in option.verbs]


def verb_named(name: str) -> Verb:
    return next(verb for verb in VERBS if verb.name == name)


def statuses_of(verb: str) -> list[Status]:
    return [status for status in STATUSES if verb in status.verbs]


def of_scons() -> list[Option]:
    return [option for option in OPTIONS if option.variable]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most likely meant."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return near[0] if near else None
