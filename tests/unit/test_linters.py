# SPDX-License-Identifier: GPL-2.0-only
"""The linters, and the rules of this code base that no linter knows.  Tracked files only."""

from __future__ import annotations

import ast
import functools
import graphlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = 100
FUNCTION_LINES = 60
C_FOLDERS = ("kernel/", "runtime/", "guest/", "samples/")
LICENCES = ("GPL-2.0-only", "GPL-2.0-only WITH Linux-syscall-note")

# From the top down: a module imports from its own layer and from those below it.
LAYERS = {
    "command line": (
        "__main__",
        "actions",
        "cli",
        "completion",
        "parser",
        "scons_tool",
        "scons_words",
    ),
    "verbs": ("build", "verbs"),
    "domain": (
        "abi",
        "binding",
        "callbacks",
        "debug_info",
        "elevation",
        "kcompile",
        "gates",
        "health",
        "imports",
        "inspect",
        "kelevate",
        "kernel",
        "kernels",
        "libkernel",
        "kmod_object",
        "link",
        "makefile",
        "manual",
        "needed",
        "pack",
        "pkg_config",
        "prototypes",
        "residue",
        "runtime",
        "sections",
        "stack",
        "stackwalk",
        "vm",
    ),
    "readers": (
        "btf",
        "crosscheck",
        "dwarf",
        "elf",
        "elfwrite",
        "layouts",
        "lines",
        "readback",
        "symbols",
    ),
    "base": (
        "__init__",
        "arrays",
        "bundled",
        "errors",
        "interrupts",
        "log",
        "options",
        "paths",
        "proc",
        "progress",
        "templates",
    ),
}

# Imports that cost so much that only the verbs which use them may have them.
HEAVY = ("capstone", "elftools", "lief", "numpy", "rich")

# No file names the server that packages come from, nor a folder of one developer's machine.
REGISTRY = re.compile(
    r"https?://[\w.-]*(?:pypi|pythonhosted|(?:deb|ftp|security|snapshot)\.[\w.]*debian|mirror"
    r"|registry\.|crates\.io|npmjs|anaconda)"
)
DEVELOPER = re.compile(r"(?<![\w.$}-])/(?:work|root)/")


@functools.cache
def tracked() -> tuple[str, ...]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    names = sorted(name for name in listed.stdout.split("\0") if (ROOT / name).is_file())
    assert names, "git lists no files"
    return tuple(names)


@functools.cache
def text(name: str) -> str:
    """The file's text; nothing for a binary file."""
    try:
        return (ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def python_files() -> list[str]:
    shebang = re.compile(r"#!.*python")
    scripts = ("SConstruct", "SConscript")
    return [
        name
        for name in tracked()
        if name.endswith(".py") or Path(name).name in scripts or shebang.match(text(name))
    ]


def notebooks() -> list[str]:
    return [name for name in tracked() if name.endswith(".ipynb")]


def c_files(suffixes: tuple[str, ...] = (".c", ".h")) -> list[str]:
    return [name for name in tracked() if name.endswith(suffixes)]


def tool(name: str) -> str:
    """A program of this virtual environment."""
    return str(Path(sys.executable).parent / name)


def check(*argv: str) -> None:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{Path(argv[0]).name} found:\n{done.stdout}{done.stderr}", pytrace=False)


def findings(names: list[str] | tuple[str, ...], is_bad: Callable[[str], object], why: str) -> None:
    """Fail with file:line for every line that is bad."""
    bad = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name in names
        for number, line in enumerate(text(name).split("\n"), 1)
        if is_bad(line)
    ]
    if bad:
        pytest.fail("\n".join([why, *bad]), pytrace=False)


# Linters


def test_ruff_check() -> None:
    check(tool("ruff"), "check", "--quiet", "--force-exclude", *python_files(), *notebooks())


def test_ruff_format() -> None:
    names = [*python_files(), *notebooks()]
    check(tool("ruff"), "format", "--quiet", "--diff", "--force-exclude", *names)


def test_mypy() -> None:
    names = [name for name in python_files() if name.startswith(("kbridge/", "scripts/"))]
    check(tool("mypy"), "--strict", "--scripts-are-modules", *names)


def test_codespell() -> None:
    check(tool("codespell"), *(name for name in tracked() if name != "LICENSE"))


def test_clang_format() -> None:
    names = [name for name in c_files() if name.startswith(C_FOLDERS)]
    command = [tool("clang-format"), "--dry-run", "-Werror", *names]
    done = subprocess.run(
        command if names else ["true"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        bad = set(re.findall(r"^(.+?):\d+:\d+: error: ", done.stderr, re.MULTILINE))
        fix = f"run: .venv/bin/clang-format -i {shlex.join(sorted(bad))}"
        pytest.fail(fix if bad else done.stderr, pytrace=False)


# Text


def is_source(name: str) -> bool:
    path = Path(name)
    named = path.name in ("Kbuild", "Makefile", "SConscript", "SConstruct", ".clang-format")
    suffixes = (".py", ".c", ".h", ".S", ".lds", ".sh", ".j2", ".mk", ".map")
    return named or path.suffix in suffixes or text(name).startswith("#!")


def test_every_source_names_its_licence() -> None:
    bad = []
    for name in filter(is_source, tracked()):
        head = "\n".join(text(name).split("\n")[:5])
        found = re.search(r"SPDX-License-Identifier: ([\w.+ -]*[\w.+])", head)
        if not text(name):
            continue  # an empty file holds nothing to license
        if not found or found[1] not in LICENCES:
            bad.append(f"{name}: {found[1] if found else 'no SPDX-License-Identifier line'}")
    assert not bad, "\n".join(bad)


def test_notebooks_are_sources() -> None:
    """A licence, and nothing of any run: no outputs, no counts, no data of who ran it."""
    bad = []
    for name in notebooks():
        content = json.loads(text(name))
        first, *_ = content["cells"]
        licence = f"<!-- SPDX-License-Identifier: {LICENCES[0]} -->"
        if "".join(first["source"]).partition("\n")[0] != licence:
            bad.append(f"{name}: the first line is not {licence}")
        for number, cell in enumerate(content["cells"], 1):
            if cell.get("outputs") or cell.get("execution_count") or "attachments" in cell:
                bad.append(f"{name}: cell {number} has been run")
            if set(cell["metadata"]) - {"tags"}:
                bad.append(f"{name}: cell {number} has metadata beside tags")
        if set(content["metadata"]) != {"kernelspec", "language_info"}:
            bad.append(f"{name}: metadata beside kernelspec and language_info")
    assert not bad, "\n".join([*bad, "clear with: jupyter nbconvert --clear-output --inplace"])


def test_no_registry_host() -> None:
    findings(tracked(), REGISTRY.search, "package servers are the user's own setting:")


def test_no_path_of_one_machine() -> None:
    findings(tracked(), DEVELOPER.search, "these folders are on one machine only:")


def test_line_length() -> None:
    names = [*python_files(), *c_files((".c", ".h", ".S"))]
    findings(names, lambda line: len(line.expandtabs(8)) > COLUMNS, f"over {COLUMNS} columns:")


def test_no_trailing_blanks() -> None:
    findings(tracked(), lambda line: line != line.rstrip(), "trailing blanks:")
    ends = [name for name in tracked() if text(name) and not text(name).endswith("\n")]
    assert not ends, f"no newline at the end of {', '.join(ends)}"


# Structure


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_functions_fit_on_a_screen() -> None:
    bad = []
    for name in python_files():
        for function in functions(ast.parse(text(name), name)):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_LINES:
                bad.append(f"{name}:{function.lineno}: {function.name} has {lines} lines")
    assert not bad, "\n".join([f"over {FUNCTION_LINES} lines:", *bad])


def modules() -> dict[str, str]:
    """Dotted module name -> file, for the package."""
    found = {}
    for name in tracked():
        if name.startswith("kbridge/") and name.endswith(".py"):
            found[name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")] = name
    return found


def imports(module: str, known: dict[str, str]) -> set[str]:
    """The modules of this package that `module` imports anywhere in its text."""
    package = module if known[module].endswith("/__init__.py") else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(text(known[module]))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parts if node.level else []), *filter(None, [node.module])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {n for n in names if n in known} or {base}
    return {name for name in found if name in known} - {module}


def layer(module: str) -> tuple[int, str]:
    """The layer's number, 0 for the highest, and its name; (-1, "") when it is in none."""
    head = module.split(".")[1] if "." in module else "__init__"
    for number, (name, members) in enumerate(LAYERS.items()):
        if head in members:
            return number, name
    return -1, ""


def test_every_module_has_a_layer() -> None:
    bad = [name for module, name in modules().items() if layer(module)[0] < 0]
    assert not bad, f"add to LAYERS, and to ARCHITECTURE.md: {', '.join(bad)}"


def test_architecture_names_every_file() -> None:
    """In the table of its folder, behind the folder's name in bold."""
    parts = re.split(r"^\*\*`([\w/]+)/`", text("ARCHITECTURE.md"), flags=re.MULTILINE)
    tables = {
        name: part.partition("\n## ")[0]
        for name, part in zip(parts[1::2], parts[2::2], strict=True)
    }
    folders = ("kbridge/", "guest/", "runtime/", "kernel/kelevate/", "scripts/")
    code = [Path(name) for name in tracked() if name.startswith(folders)]
    bad = []
    for path in code:
        folder = str(path.parent)
        if folder.startswith("scripts"):
            listed = f"`{path.parts[1]}" in tables["scripts"]
        else:
            unlisted = path.suffix not in (".py", ".c", ".h", ".S") or path.name == "__init__.py"
            listed = unlisted or f"`{path.name}`" in tables.get(folder, "")
        if not listed:
            bad.append(str(path))
    assert not bad, f"add to the tables of ARCHITECTURE.md: {', '.join(bad)}"


def test_imports_point_one_way() -> None:
    known = modules()
    bad = []
    for module in known:
        number, own = layer(module)
        for other in sorted(imports(module, known)):
            target, name = layer(other)
            if -1 < target < number:
                bad.append(f"{known[module]} ({own}) imports {other} ({name})")
    assert not bad, "\n".join(bad)


def test_imports_make_no_circle() -> None:
    known = modules()
    graph = {module: imports(module, known) for module in known}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as problem:
        pytest.fail(f"modules import each other: {' -> '.join(problem.args[1])}", pytrace=False)


def test_help_loads_no_heavy_package() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "kbridge", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.split("\n")}
    assert "kbridge" in loaded
    assert not loaded & set(HEAVY)
