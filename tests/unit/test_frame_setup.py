# SPDX-License-Identifier: GPL-2.0-only
"""scripts/setup against pretended machines: fakes of apt, dpkg, sudo and of the Python's venv."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Every fake adds its own name and words to $LOG.
FAKES = {
    "dpkg-query": """
        for name in $(printf '%s\\n' "$@" | grep -v '^-'); do
            if grep -qx "$name" "$STATE"; then echo "$name installed"; fi
        done""",
    "apt-get": """
        echo "apt-get $*" >>"$LOG"
        case "$*" in
        *--simulate*) printf 'Inst %s (1 Debian [amd64])\\n' $PLAN ;;
        *update) exit ${UPDATE:-0} ;;
        *install*) printf '%s\\n' $GIVES >>"$STATE" ;;
        esac""",
    "sudo": """
        echo "sudo $*" >>"$LOG"
        [ "$1" = -n ] && [ -n "$PASSWORD" ] && exit 1
        [ "$1" = -n ] && shift
        exec "$@" """,
}

# Stands in for `python -m venv`: its pip makes the programs that the project would bring.
VENV = """#!/bin/sh
echo "venv $*" >>"$LOG"
mkdir -p "$3/bin"
cat >"$3/bin/python" <<'END'
#!/bin/sh
echo "pip $*" >>"$LOG"
[ -z "$PIP_FAILS" ] || exit 1
for name in kbridge scons pytest; do
    printf '#!/bin/sh\\n' >.venv/bin/$name
    chmod +x .venv/bin/$name
done
END
chmod +x "$3/bin/python"
"""

# Runs the script as if on another Python and as another user.
DRIVER = """
import os, runpy, sys
uid, python, script, *args = sys.argv[1:]
os.geteuid = lambda: int(uid)
sys._base_executable = python
sys.argv = [script, *args]
runpy.run_path(script, run_name="__main__")
"""


@dataclass
class Machine:
    folder: Path
    env: dict[str, str]
    root: Path = field(init=False)

    def __post_init__(self) -> None:
        self.root = self.folder / "my clone"
        (self.root / "scripts").mkdir(parents=True)
        for name in ("pyproject.toml", "scripts/setup", "scripts/constraints.txt"):
            shutil.copy(ROOT / name, self.root / name)
        (self.root / "scripts/packages.txt").write_text(
            "# comment\nbase gcc why\nbase cpio why not\n\ntest g++ why\n"
        )
        (self.folder / "state").write_text("gcc\ncpio\ng++\n")
        (self.folder / "log").touch()

    def fake(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def installed(self, *names: str) -> None:
        (self.folder / "state").write_text("".join(f"{name}\n" for name in names))

    def setup(
        self, *args: str, uid: int = 0, python: Path | None = None, **env: str
    ) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """Run the script; also what it ran."""
        (self.folder / "log").write_text("")
        done = subprocess.run(
            [
                sys.executable,
                *("-c", DRIVER, str(uid), str(python or self.folder / "bin/fakepython")),
                *(str(self.root / "scripts/setup"), *args),
            ],
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done, (self.folder / "log").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "bin").mkdir()
    # Of the real programs only these, so that a sudo of this machine is never found.
    for name in ("sh", "cat", "chmod", "env", "grep", "mkdir", "printf", "true"):
        found = shutil.which(name)
        assert found
        (tmp_path / "bin" / name).symlink_to(found)
    env = {
        "PATH": str(tmp_path / "bin"),
        "LOG": str(tmp_path / "log"),
        "STATE": str(tmp_path / "state"),
        "GIVES": "cpio g++",
        "PLAN": "cpio",
    }
    made = Machine(tmp_path, env)
    for name in ("dpkg-query", "apt-get"):
        made.fake(name, FAKES[name])
    made.fake("fakepython", VENV)
    return made


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("kbridge_setup", str(ROOT / "scripts/setup"))
    spec = importlib.util.spec_from_loader("kbridge_setup", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def pips(log: list[str]) -> int:
    return sum(line.startswith("pip ") for line in log)


# Packages


def test_package_list_is_well_formed(script: ModuleType) -> None:
    text = (ROOT / "scripts/packages.txt").read_text()
    rows = [line.split(maxsplit=2) for line in text.splitlines() if line and line[0] != "#"]
    assert {row[0] for row in rows} == {"base", "test"}
    assert all(len(row) == 3 for row in rows)
    assert len({row[1] for row in rows}) == len(rows)
    assert not [row[1] for row in rows if row[1].startswith(script.REFUSED)]
    assert "linux-headers-cloud-amd64" in script.read_packages(text, ["base"])


def test_constraints_pin_exact_versions() -> None:
    lines = (ROOT / "scripts/constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and line[0] != "#"]
    assert all(pin.count("==") == 1 and pin.islower() for pin in pins)


def test_nothing_missing_calls_no_apt(machine: Machine) -> None:
    done, log = machine.setup()
    assert done.returncode == 0, done.stderr
    assert not [line for line in log if line.startswith("apt-get")]


def test_missing_package_is_installed(machine: Machine) -> None:
    machine.installed("gcc")
    done, log = machine.setup()
    assert done.returncode == 0, done.stderr
    calls = [line for line in log if line.startswith("apt-get")]
    assert calls[0].endswith("update")
    assert "--simulate" in calls[1]
    assert calls[2].endswith("install --yes --no-install-recommends --no-remove cpio")


def test_test_packages_only_on_request(machine: Machine) -> None:
    machine.installed("gcc", "cpio")
    assert not [x for x in machine.setup()[1] if x.startswith("apt-get")]
    done, log = machine.setup("--tests")
    assert done.returncode == 0, done.stderr
    assert [x for x in log if x.startswith("apt-get")][-1].endswith("g++")
    assert log[-1].startswith("pip -c from kbridge.vm import hostroot")  # a kernel with 9p


def test_failing_update_is_only_a_warning(machine: Machine) -> None:
    machine.installed("gcc")
    done, _ = machine.setup(UPDATE="100")
    assert done.returncode == 0
    assert "warning: apt-get update failed" in done.stderr


@pytest.mark.parametrize("name", ["linux-image-6.1.0-1-amd64", "grub-common", "initramfs-tools"])
def test_boot_packages_are_refused(machine: Machine, name: str) -> None:
    machine.installed("gcc")
    done, log = machine.setup(PLAN=f"cpio {name}")
    assert done.returncode == 1
    assert name in done.stderr
    assert "--simulate" in log[-1], "apt-get install ran"


def test_package_that_apt_does_not_bring(machine: Machine) -> None:
    machine.installed("gcc")
    done, log = machine.setup(GIVES="")
    assert done.returncode == 1
    assert "did not install cpio" in done.stderr
    assert not pips(log)


def test_neither_root_nor_sudo_names_the_command(machine: Machine) -> None:
    machine.installed("gcc")
    done, log = machine.setup(uid=1000)
    assert done.returncode == 1
    assert log == []
    assert done.stderr.count("\n") == 1
    assert "as root, run: apt-get update && apt-get install" in done.stderr
    assert done.stderr.rstrip().endswith("cpio")


def test_sudo_without_password(machine: Machine) -> None:
    machine.installed("gcc")
    machine.fake("sudo", FAKES["sudo"])
    done, log = machine.setup(uid=1000)
    assert done.returncode == 0, done.stderr
    assert [line for line in log if line.startswith("sudo -n env DEBIAN_FRONTEND=noninteractive")]


def test_sudo_with_password_and_no_terminal(machine: Machine) -> None:
    machine.installed("gcc")
    machine.fake("sudo", FAKES["sudo"])
    done, log = machine.setup(uid=1000, PASSWORD="wanted")
    assert done.returncode == 1
    assert log == ["sudo -n true"]
    assert "no terminal" in done.stderr


def test_closed_stdin(machine: Machine) -> None:
    machine.installed("gcc")
    machine.fake("sudo", FAKES["sudo"])
    words = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-c", DRIVER, "1000", "python"]
    done = subprocess.run(
        [*words, str(machine.root / "scripts/setup")],
        env={**machine.env, "PASSWORD": "wanted"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no terminal" in done.stderr


def test_without_apt_goes_on_with_a_warning(machine: Machine) -> None:
    (machine.folder / "bin/apt-get").unlink()
    done, _ = machine.setup()
    assert done.returncode == 0
    assert "no apt here" in done.stderr
    assert "gcc cpio" in done.stderr


# The virtual environment


def test_second_run_does_nothing(machine: Machine) -> None:
    done, log = machine.setup()
    assert (done.returncode, pips(log)) == (0, 2), done.stderr
    done, log = machine.setup()
    assert (done.returncode, log) == (0, [])


def test_failed_pip_is_repaired(machine: Machine) -> None:
    done, _ = machine.setup(PIP_FAILS="1")
    assert done.returncode == 1
    assert "make setup" in done.stderr
    done, log = machine.setup()
    assert done.returncode == 0
    assert log[0].startswith("venv"), "half an environment was kept"


def test_changed_input_installs_again_into_the_same_venv(machine: Machine) -> None:
    machine.setup()
    with (machine.root / "scripts/constraints.txt").open("a") as stream:
        stream.write("other==1\n")
    done, log = machine.setup()
    assert (done.returncode, pips(log)) == (0, 2)
    assert not [line for line in log if line.startswith("venv")]


def test_moved_clone_gets_a_new_venv(machine: Machine) -> None:
    machine.setup()
    machine.root = machine.root.rename(machine.folder / "elsewhere")
    _, log = machine.setup()
    assert log[0].startswith("venv")


@pytest.mark.parametrize("damage", ["stamp", "python", "scons", "file", "link", "starts", "lost"])
def test_broken_venv_is_made_anew(machine: Machine, damage: str) -> None:
    machine.setup()
    venv = machine.root / ".venv"
    if damage == "stamp":
        (venv / "kbridge-setup.json").write_text("[")
    elif damage in ("python", "scons"):
        (venv / "bin" / damage).unlink()
        (venv / "bin" / damage).symlink_to("/nowhere")
    elif damage == "starts":  # as where what it imports is gone
        (venv / "bin/kbridge").write_text("#!/bin/sh\nexit 1\n")
    elif damage == "lost":
        (venv / "bin/scons").write_text("#!/nowhere/python\n")
    else:
        shutil.rmtree(venv)
        venv.touch() if damage == "file" else venv.symlink_to("/nowhere")
    done, log = machine.setup()
    assert done.returncode == 0, done.stderr
    assert log[0].startswith("venv")
    assert machine.setup()[1] == []


def test_the_new_venv_must_start(machine: Machine) -> None:
    machine.fake("fakepython", VENV.replace("'#!/bin/sh\\n'", "'#!/bin/sh\\nexit 1'"))
    done, _ = machine.setup()
    assert done.returncode == 1
    assert "does not start" in done.stderr
    assert "ready" not in done.stderr


def test_the_python_is_not_the_one_that_is_replaced(machine: Machine) -> None:
    """.venv is active in the shell, and half of it was removed."""
    (machine.root / ".venv/bin").mkdir(parents=True)
    python = machine.root / ".venv/bin/python3"
    python.symlink_to(machine.folder / "bin/fakepython")
    done, log = machine.setup(python=python)
    assert done.returncode == 0, done.stderr
    assert log[0].startswith("venv")


def test_make_looks_for_its_python_elsewhere(tmp_path: Path) -> None:
    clone = tmp_path / "a clone"
    (clone / ".venv/bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", clone)
    fake = clone / ".venv/bin/python3"
    fake.write_text("#!/bin/sh\necho the wrong one\n")
    fake.chmod(0o755)
    (clone / "scripts").mkdir()
    (clone / "scripts/setup").write_text("import sys; print('set up by', sys.executable)\n")
    path = f"{fake.parent}:{os.environ['PATH']}"
    make = ["make", "-s", "setup"]
    done = subprocess.run(
        make, cwd=clone, env={"PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("set up by")
    assert str(clone) not in done.stdout


def test_another_python_gets_a_new_venv(machine: Machine) -> None:
    machine.setup()
    stamp = machine.root / ".venv/kbridge-setup.json"
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "python": "3.11.0"}))
    assert machine.setup()[1][0].startswith("venv")


def test_failing_venv_is_one_line(machine: Machine) -> None:
    machine.fake("fakepython", "#!/bin/sh\nexit 1")
    done, _ = machine.setup()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot make a virtual environment" in done.stderr


def test_interrupt_is_one_line(machine: Machine) -> None:
    machine.fake("fakepython", '#!/bin/sh\nkill -INT "$PPID"; exec sleep 0.2')
    (machine.folder / "bin/sleep").symlink_to(shutil.which("sleep") or "")
    done, _ = machine.setup()
    assert done.returncode == 128 + signal.SIGINT
    assert "Traceback" not in done.stderr


def test_waits_for_another_run(script: ModuleType, tmp_path: Path) -> None:
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        with script.alone():
            other = os.open(".", os.O_RDONLY)
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(other)
    finally:
        os.chdir(before)


def test_unknown_word_is_a_usage_error(machine: Machine) -> None:
    done, log = machine.setup("--help-me")
    assert (done.returncode, log) == (2, [])


def test_old_python_is_refused_by_name() -> None:
    text = (ROOT / "scripts/setup").read_text()
    code = "import sys; sys.version_info = (3, 10, 1); exec(compile(sys.stdin.read(), 's', 'exec'))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "kbridge needs 3.11 or newer" in done.stderr
