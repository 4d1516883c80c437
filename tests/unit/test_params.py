# SPDX-License-Identifier: GPL-2.0-only
"""What libkbridge makes of KBRIDGE_PARAMS for one image (runtime/params.c), under sanitizers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
ROOM = 64
HARNESS = """\
#include <stdio.h>
#include <stdlib.h>
#include "internal.h"

_Noreturn void kb_fail(const char *name, const char *what, const char *detail, const char *hint)
{
	printf("%s: %s%s; %s", name, what, detail, hint);
	exit(125);
}

int main(int argc, char **argv)
{
	char *args = malloc(ROOM); /* on the heap, where the sanitizer sees its end */

	kb_params(argv[1], args, ROOM);
	printf("%s", args);
	free(args);
	return argc != 2;
}
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("params")
    (folder / "main.c").write_text(HARNESS)
    command = ["gcc", "-g", "-Wall", "-Werror", "-fsanitize=address,undefined", f"-DROOM={ROOM}"]
    command += [f"-I{ROOT / 'runtime'}", f"-I{ROOT / 'kernel/kelevate'}", "main.c"]
    command += [str(ROOT / "runtime/params.c"), "-o", "harness"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "harness"


def run(harness: Path, text: bytes, image: str = "my_app") -> tuple[int, bytes]:
    env = {**os.environb, b"KBRIDGE_PARAMS": text}
    done = subprocess.run([harness, image], env=env, capture_output=True, check=False)
    assert not done.stderr, done.stderr.decode(errors="replace")
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  \t\n", []),
        ("size=4", ["size=4"]),
        (" size=4   flag ", ["size=4", "flag"]),
        ("my_app.size=4 other.size=5 size2=6", ["size=4", "size2=6"]),
        ("my-app.size=4", ["size=4"]),
        ("my_ap.size=4 my_app2.size=5", []),
        ('label="two words" my_app.label="a b"', ['label="two words"', 'label="a b"']),
        ("path=/a.b/c", ["path=/a.b/c"]),
        ('label="a.b"', ['label="a.b"']),
        (".size=4", []),
        ("my_app.", [""]),
        ("my_app.my_app.x=1", ["my_app.x=1"]),
        ('open="never closed x', ['open="never closed x']),
    ],
)
def test_words(harness: Path, text: str, words: list[str]) -> None:
    assert run(harness, text.encode()) == (0, "".join(f"{word} " for word in words).encode())


def test_the_limit(harness: Path) -> None:
    most = ROOM - 2  # a blank and the end
    assert run(harness, b"a" * most) == (0, b"a" * most + b" ")
    status, said = run(harness, b"a" * (most + 1))
    assert status == 125
    assert said.startswith(b"my_app: parameters of more than")
    assert run(harness, b"other." + b"a" * 500) == (0, b"")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.sampled_from([b" ", b'"', b".", b"=", b"my_app.", b"other.", b"-", b"_", b"\t"]),
            st.binary(max_size=6).map(lambda one: one.replace(b"\0", b"")),
        ),
        max_size=30,
    ).map(b"".join)
)
def test_any_bytes(harness: Path, text: bytes) -> None:
    status, said = run(harness, text)
    assert status in (0, 125)
    if status == 0:
        assert len(said) < ROOM
        assert all(word in text for word in said.split(b" "))
