#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Builds modules of the kernel's source tree, unchanged, as kmods, and says what became of each.

    .venv/bin/python bench/corpus.py --kbuild                      the list, on every kernel here
    .venv/bin/python bench/corpus.py --kbuild --all drivers/net/phy     all modules of a folder
    .venv/bin/python bench/corpus.py --kbuild --run --markdown docs/corpus.md
    .venv/bin/python bench/corpus.py --times                       against Kbuild, side by side

The sources come from the packages linux-source-X.Y, fetched into the cache (once; 140 MB each).
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import entry

from kbridge import options, paths
from kbridge.errors import UsageError
from kbridge.kernels import target

sys.path.insert(0, str(entry.ROOT / "tests"))

from intree import attempts, programs, report, selection, sources, timing


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=how)
    add = parser.add_argument
    add("--kernel", action="append", metavar="RELEASE", help="may be given again (default: all)")
    add("--code", choices=(*options.CODE_MODELS, "both"), default="both")
    add("-j", dest="jobs", type=int, default=2, metavar="N", help="builds at a time (default: 2)")
    add("--kbuild", action="store_true", help="also build each by Kbuild, as an external module")
    add("--list", type=Path, default=selection.LIST, metavar="FILE", help="the sources to build")
    add("--all", action="append", metavar="FOLDER", help="all modules there, in place of the list")
    add("--configured", action="store_true", help="of --all: those that the kernel has as well")
    add("--run", action="store_true", help="run what was built in the virtual machine")
    add("--keep", type=Path, metavar="FOLDER", help="leave the libraries there")
    add("--markdown", type=Path, metavar="FILE", help="also write the tables there")
    add("--times", action="store_true", help="only measure: kbridge against Kbuild")
    add("--runs", type=int, default=3, help="of --times (default: 3)")
    return parser.parse_args(argv)


def _chosen(wanted: argparse.Namespace, tree: Path, kernel: target.KernelTarget) -> list[str]:
    if not wanted.all:
        return selection.read(wanted.list)
    folders = (folder.rstrip("/") for folder in wanted.all)
    only = kernel if wanted.configured else None
    found = [name for folder in folders for name in selection.modules(tree, folder, only)]
    if not found:
        raise UsageError(
            f"no module of one file in {', '.join(wanted.all)} of {tree.name}",
            hint="leave --configured out, or name another folder",
        )
    return list(dict.fromkeys(found))


def _codes(wanted: argparse.Namespace) -> tuple[str, ...]:
    return options.CODE_MODELS if wanted.code == "both" else (wanted.code,)


def _try_all(
    jobs: int, there: Sequence[str], title: str, build: Callable[[str], attempts.Attempt]
) -> list[attempts.Attempt]:
    """The attempts, in order; what fails is said at once."""
    done: list[attempts.Attempt] = []
    with ThreadPoolExecutor(jobs) as pool:
        for one in pool.map(build, there):
            done.append(one)
            if one.error:
                print(f"{title}: {one.source}: {one.error}", file=sys.stderr)
            if len(done) % 20 == 0 or len(done) == len(there):
                print(f"{title}: {len(done)} of {len(there)}", file=sys.stderr, flush=True)
    return done


def _survey(wanted: argparse.Namespace, kernel: target.KernelTarget, folder: Path) -> report.Survey:
    tree = sources.tree(kernel.release)
    chosen = _chosen(wanted, tree, kernel)
    there = [name for name in chosen if (tree / name).is_file()]
    survey = report.Survey(kernel.release, attempts.identity(tree), chosen, there)
    folder.mkdir(parents=True, exist_ok=True)
    if wanted.kbuild:
        with paths.scratch("kbridge-kbuild-") as inner:
            survey.attempts[attempts.KBUILD] = _try_all(
                wanted.jobs,
                there,
                f"{kernel.release} {attempts.KBUILD}",
                lambda name: attempts.kbuild(tree, name, kernel, inner),
            )
    for code in _codes(wanted):
        build = functools.partial(attempts.kbridge, tree, target=kernel, code=code, folder=folder)
        title = f"{kernel.release} {code}"
        survey.attempts[code] = _try_all(wanted.jobs, there, title, build)
    if wanted.run:
        for code in _codes(wanted):
            survey.runs[code] = programs.run(kernel.release, survey.built(code), folder)
    return survey


def _times(wanted: argparse.Namespace, kernel: target.KernelTarget) -> str:
    tree = sources.tree(kernel.release)
    there = [name for name in _chosen(wanted, tree, kernel) if (tree / name).is_file()]
    files = timing.Files(tree, there, kernel, wanted.jobs)
    return timing.measure(timing.comparable(files), _codes(wanted), wanted.runs)


def _run(argv: Sequence[str]) -> None:
    wanted = _arguments(argv)
    if wanted.jobs < 1 or wanted.runs < 1:
        raise UsageError("-j and --runs are at least 1", hint="leave them out for what is usual")
    if wanted.times:
        for kernel in entry.kernels(wanted.kernel):
            print(_times(wanted, kernel))
        return
    with paths.scratch("kbridge-corpus-") as scratch:
        folder = wanted.keep or scratch
        surveys = [
            _survey(wanted, kernel, folder.absolute() / kernel.release)
            for kernel in entry.kernels(wanted.kernel)
        ]
    print(report.text(surveys), end="")
    if wanted.markdown:
        entry.write_page(wanted.markdown, report.markdown(surveys, entry.command(__file__, argv)))


if __name__ == "__main__":
    sys.exit(entry.main(_run))
