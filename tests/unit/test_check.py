# SPDX-License-Identifier: GPL-2.0-only
"""Which programs libkbridge lets in on a kernel that they were not built for (runtime/check.c),
under sanitizers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbridge import abi

ROOT = Path(__file__).parents[2]
RELEASE, BUILD_ID, DIGEST = "6.1.0-test", "ab" * 20, "0123456789abcdef" * 2
HARNESS = """\
#include "check.c"
#include <stdio.h>

_Noreturn void kb_fail(const char *name, const char *what, const char *detail, const char *hint)
{
	exit(!name || !what || !detail || !hint);
}

int main(int argc, char **argv)
{
	struct kb_image program = { .interface = strdup(argv[1]) };
	char *text = secure_getenv(COMPARED);

	(void)argc;
	if (text) /* setenv() copies it to the heap, where the sanitizer sees its end */
		setenv(COMPARED, strdup(text), 1);
	puts(compared(&program, argv[2], argv[3]) ? "in" : "out");
	return 0;
}
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check")
    (folder / "harness.c").write_text(HARNESS)
    includes = [f"-I{ROOT / 'runtime'}", f"-I{ROOT / 'kernel/kelevate'}"]
    flags = ["-g", "-Wall", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover"]
    flags += ["-ffunction-sections", "-Wl,--gc-sections"]  # the rest of libkbridge is not here
    command = ["gcc", *flags, *includes, "-o", folder / "harness", folder / "harness.c"]
    subprocess.run(command, check=True)
    return folder / "harness"


def asked(harness: Path, text: str | None, digest: str = DIGEST) -> str:
    env = {name: value for name, value in os.environ.items() if name != abi.VARIABLE}
    if text is not None:
        env[abi.VARIABLE] = text
    env["ASAN_OPTIONS"] = "detect_leaks=0"
    command = [harness, digest, RELEASE, BUILD_ID]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (f"{RELEASE} {BUILD_ID} {DIGEST}", "in"),
        (f"{RELEASE} {BUILD_ID} {'f' * 32} {DIGEST}", "in"),
        (f"{RELEASE}  {BUILD_ID}  {DIGEST} ", "in"),
        (None, "out"),
        ("", "out"),
        (" ", "out"),
        (RELEASE, "out"),
        (f"{RELEASE} {BUILD_ID}", "out"),
        (f"{RELEASE} {BUILD_ID} ", "out"),
        (f"{RELEASE} {BUILD_ID} {DIGEST[:-1]}", "out"),
        (f"{RELEASE} {BUILD_ID} {DIGEST}0", "out"),
        (f"{RELEASE} {BUILD_ID[:-1]}c {DIGEST}", "out"),
        (f"{RELEASE}x {BUILD_ID} {DIGEST}", "out"),
        (f" {RELEASE} {BUILD_ID} {DIGEST}", "out"),
        (f"{BUILD_ID} {RELEASE} {DIGEST}", "out"),
        (DIGEST, "out"),
    ],
)
def test_who_is_let_in(harness: Path, text: str | None, answer: str) -> None:
    assert asked(harness, text) == answer


def test_a_program_without_a_record_is_never_let_in(harness: Path) -> None:
    for text in (
        f"{RELEASE} {BUILD_ID}",
        f"{RELEASE} {BUILD_ID} ",
        f"{RELEASE} {BUILD_ID} {DIGEST}",
    ):
        assert asked(harness, text, digest="") == "out"


words = st.sampled_from([RELEASE, BUILD_ID, DIGEST, "", "x", DIGEST[:5]])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(words, max_size=6))
def test_any_words(harness: Path, listed: list[str]) -> None:
    found = [word for word in listed if word]
    right = bool(listed and listed[0]) and found[:2] == [RELEASE, BUILD_ID] and DIGEST in found[2:]
    assert asked(harness, " ".join(listed)) == ("in" if right else "out")
