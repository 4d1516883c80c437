# SPDX-License-Identifier: GPL-2.0-only
"""Writes docs/support.md: what was tested on which kernel, out of results of pytest.

    .venv/bin/python -m pytest tests/vm tests/integration/test_dkms.py --junitxml build/junit.xml
    .venv/bin/python scripts/pages/support.py build/junit.xml

A cell is what the results say, and nothing else: no row is true because somebody says so.
"""

from __future__ import annotations

import argparse
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/support.md"
MODELS = ("pic", "kernel")
RELEASE = re.compile(r"\d+\.\d+\.\d+[\w.+]*(?:-\w+)*?-amd64")
HARD = "pti=on preempt=full"


@dataclass(frozen=True)
class Row:
    """A feature, and the tests that show it: folder/file::function, and what their parameters hold.

    `models`: the code models that each of these tests tries, where its parameters name none.
    """

    what: str
    test: str
    models: tuple[str, ...] = ()
    holds: str = ""
    lacks: str = "\n"


ROWS = (
    Row(
        "calls of a kmod, kernel symbols, by `libkernel.so` and by linker script",
        "vm/test_samples::test_every_code_model_and_link_mode",
        MODELS,
    ),
    Row(
        "[what a module may hold](kmod.md#what-works-as-in-a-module): static keys, exception "
        "tables, per-CPU data, timers ...",
        "vm/test_finish::test_everything_is_finished",
        MODELS,
    ),
    Row(
        "kmods compiled by clang",
        "vm/test_clang::test_every_kernel_and_code_model",
        MODELS,
        holds="-clang",
    ),
    Row("names that libc and the kernel both have", "vm/test_names::test_every_slot", MODELS),
    Row("gdb stops in a kmod's function", "vm/test_debug::test_gdb_stops_in_a_kmod_function"),
    Row(
        "functions near [the limit of the stack](kmod.md#stack)",
        "vm/test_stack::test_a_function_near_the_limit_runs",
        MODELS,
    ),
    Row(
        "a million gates, threads, forks, signals, 200 programs at once",
        "vm/test_load::test_a_million_gates_and_200_programs",
        ("pic",),
    ),
    Row(
        "a load of gates, isolated and preempted",
        "vm/test_load::test_isolated_and_preempted",
        ("pic",),
    ),
    Row("[brackets](brackets.md)", "vm/test_brackets::test_brackets"),
    Row("brackets, isolated and preempted", "vm/test_brackets::test_isolated_and_preempted"),
    Row(
        "[whole programs in ring 0](whole-process.md)",
        "vm/test_programs::test_a_program_and_a_shell",
        lacks=HARD,
    ),
    Row(
        "whole programs, isolated and preempted",
        "vm/test_programs::test_a_program_and_a_shell",
        holds=HARD,
    ),
    Row(
        "[C++, Rust, Go, Java, assembly, Python](languages.md)",
        "vm/test_languages::test_the_samples_in_every_language",
        lacks=HARD,
    ),
    Row("[the samples](../samples/README.md)", "vm/test_capabilities::.*", lacks="isolated"),
    Row("the samples, isolated", "vm/test_capabilities::.*_isolated_.*"),
    Row(
        "[faults](faults.md) that only the program dies of",
        "vm/test_faults::test_the_machine_goes_on",
        holds="as it boots",
    ),
    Row(
        "[who may elevate](security.md), what is refused and logged",
        "vm/test_security::test_who_may_and_what_the_log_says",
    ),
    Row(
        "symbols of the image are those of the booted kernel",
        "vm/test_symbols::test_all_symbols_are_those_of_the_booted_kernel",
    ),
    Row(
        "[saved states](running.md#saved-states) of machines",
        "vm/test_saved_state::test_a_state_is_saved_and_gone_on_from",
    ),
    Row("`--root FOLDER`: a script, and a program with a kmod", "vm/test_root_folder::.*"),
    Row(
        "[built in a container](containers.md), run outside and with its root",
        "vm/test_containers::test_the_.*",
    ),
    Row(
        "the samples of [SCons](scons.md), [CMake](cmake.md) and [Meson](meson.md)",
        "vm/test_build_systems::.*",
    ),
    Row("a [notebook](notebooks.md)", "vm/test_notebooks::test_the_quickest_notebook"),
    Row("kelevate's self-test", "vm/test_selftest::test_selftest"),
    Row(
        "[kelevate by DKMS](../kernel/README.md)", "integration/test_dkms::test_from_add_to_remove"
    ),
)


@dataclass(frozen=True)
class Result:
    test: str  # folder/file::function
    params: str  # or the kernel, where record_property() names it
    passed: bool

    @property
    def release(self) -> str:
        found = RELEASE.search(self.params)
        return found[0] if found else ""

    @property
    def model(self) -> str:
        """The code model that its parameters name."""
        words = RELEASE.sub("", self.params).split("-")
        return next((model for model in MODELS if model in words), "")


def read(files: Iterable[Path]) -> tuple[list[Result], str]:
    """The results that name a kernel, and the last day on which some of them came about."""
    results, days = [], [""]
    for file in files:
        root = ET.parse(file).getroot()  # our own pytest wrote it
        days += [suite.get("timestamp", "")[:10] for suite in root.iter("testsuite")]
        for case in root.iter("testcase"):
            name, _, params = case.get("name", "").partition("[")
            module = "/".join(case.get("classname", "").split(".")[-2:])
            kernel = case.find("properties/property[@name='kernel']")
            named = "" if kernel is None else kernel.get("value", "")
            bad = [case.find(kind) for kind in ("failure", "error", "skipped")]
            result = Result(
                f"{module}::{name}", params[:-1] or named, all(one is None for one in bad)
            )
            if result.release:
                results.append(result)
    return results, max(days)


def cell(row: Row, release: str, results: Sequence[Result]) -> str:
    tried = [
        one
        for one in results
        if one.release == release
        and re.fullmatch(row.test, one.test)
        and row.holds in one.params
        and row.lacks not in one.test + one.params
    ]
    if not tried:
        return "-"
    if not all(one.passed for one in tried):
        return "**fails**"
    models = {model for one in tried for model in ((one.model,) if one.model else row.models)}
    return ", ".join(model for model in MODELS if model in models) or "yes"


def page(results: Sequence[Result], day: str) -> str:
    releases = sorted(
        {one.release for one in results},
        key=lambda release: ([int(number) for number in re.findall(r"\d+", release)], release),
    )
    rows = [(row.what, [cell(row, release, results) for release in releases]) for row in ROWS]
    template = Path(__file__).with_name("support.md.j2").read_text(encoding="utf-8")
    made = jinja2.Template(template, trim_blocks=True, keep_trailing_newline=True)
    return str(made.render(releases=releases, rows=rows, day=day, count=len(results)))


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Write docs/support.md from results of pytest.")
    parser.add_argument("results", nargs="+", type=Path, metavar="JUNIT.XML")
    args = parser.parse_args(argv)
    results, day = read(args.results)
    if not results:
        parser.error("none of the results is of a test that names a kernel")
    PAGE.write_text(page(results, day), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
