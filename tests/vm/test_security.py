# SPDX-License-Identifier: GPL-2.0-only
"""Who may not elevate does not; what elevates is logged; everybody else stays protected.

docs/security.md says what these tests show, in words.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from conftest import Kbridge
from guest_shell import LIBRARIES, Guest, build, console_log_environment
from kernel_log import complaints

from kbridge import paths
from kbridge.kernels import image, packages, target

PROGRAMS = Path(__file__).parent / "programs"
HARD = "pti=on preempt=full"
KERNELS = [kernel.release for kernel in target.installed()] or ["none installed"]
SLUB = "slub_debug=FZPU kfence.sample_interval=20"  # the checks of memory that a stock kernel has
ELEVATES = re.compile(r"kelevate: (\S+)\[(\d+)\] elevates: uid (\d+), kb:(\S+)")

FREESTANDING = (
    *("-Os", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie", "-Wall", "-Werror"),
    *("-fno-stack-protector", "-fcf-protection=none", "-Wl,--build-id=none"),
    *("-isystem", "/usr/include/x86_64-linux-gnu"),
)


def compat(folder: Path, bits: str) -> Path:
    """A program of the 32-bit or x32 kind; it needs no C library of that kind."""
    out = folder / f"compat-{bits}"
    command = ["gcc", f"-m{bits}", *FREESTANDING, PROGRAMS / "compat.c", "-o", out]
    subprocess.run(command, check=True)
    return out


def security(kbridge: Kbridge, folder: Path, release: str, *how: str) -> Path:
    app, kmod = PROGRAMS / "security.c", PROGRAMS / "security_kmod.c"
    return build(kbridge, app, kmod, folder / "security", release, *how)


def with_another_build_id(program: Path, release: str) -> Path:
    """The program with one digit of its kernel's build ID changed, wherever it stands."""
    own = image.symbols(release).build_id.encode()
    assert own in program.read_bytes()
    other = (b"0" if own[:1] != b"0" else b"1") + own[1:]
    out = program.with_name("other")
    out.write_bytes(program.read_bytes().replace(own, other))
    out.chmod(0o755)
    return out


@pytest.mark.parametrize("append", ["", pytest.param(HARD, marks=pytest.mark.slow)])
@pytest.mark.parametrize("release", KERNELS)
def test_who_may_and_what_the_log_says(
    kbridge: Kbridge, tmp_path: Path, release: str, append: str
) -> None:
    """All in one boot; lockdown, which cannot be lowered, at its end."""
    program, small = security(kbridge, tmp_path, release), compat(tmp_path, "32")
    words = ["refused", f"inherit {small}", "logged", "exec", "audited", "protected", "lockdown"]
    commands = {f"security {word} 2>&1": program for word in words[:-1]}
    commands["other 2>&1"] = with_another_build_id(program, release)
    commands[f"security {words[-1]} 2>&1"] = program
    log = tmp_path / "console"
    options = ("--append", f"audit=1 {append}", "--file", f"{small}:{small}")
    said = Guest(kbridge, release).run(commands, log, how=options)
    for line, text in said.items():
        status = 125 if line.startswith("other") or "lockdown" in line else 0
        assert text.rstrip().endswith(f"status {status}"), f"{line}:\n{text}"
        assert "FAIL" not in text, f"{line}:\n{text}"
    assert "built for another build of this kernel release" in said["other 2>&1"]
    assert "may not enter the kernel: Operation not permitted" in said["security lockdown 2>&1"]
    text = log.read_text(errors="replace")
    _check_elevations(text)
    assert "Lockdown: security: unsigned module loading is restricted" in text
    # what must fault did, of the two programs that it killed, and nothing else
    assert len(re.findall(r"(?:RIP: 0010:|\? )touch\+", text)) >= 1
    assert text.count("#PF: supervisor instruction fetch in kernel mode") == 1
    if not append:  # with page-table isolation NX stops it, and the kernel words it otherwise
        assert text.count("unable to execute userspace code (SMEP?)") == 1
    faults = ["touch+0x", "#PF: supervisor instruction fetch in kernel mode"]
    unexpected = complaints(log, expected=faults)
    assert not unexpected, "\n".join(unexpected)


def _check_elevations(text: str) -> None:
    """One line a process, two where exec started another program in it."""
    lines = ELEVATES.findall(text)
    pids = [pid for _, pid, _, _ in lines]
    twice = [pid for pid in set(pids) if pids.count(pid) == 2]
    assert len(twice) == 1, lines
    assert len(pids) == len(set(pids)) + 1, lines
    assert len(pids) > 150, lines
    others = [(name, image) for name, _, uid, image in lines if uid != "0"]
    assert others == [(r"two\nlines", "security")]
    assert "1000" in {uid for _, _, uid, _ in lines}
    audited = re.findall(r"type=1330 audit\(.*op=elevate name=\"kb:security\" .*\bpid=(\d+)", text)
    assert len(audited) == 1
    assert audited[0] not in pids
    assert re.search(r"op=elevate .* uid=0 .*comm=\"security\" exe=\"\S+/security\"", text)


def fuzz(kbridge: Kbridge, folder: Path, release: str, seconds: int) -> None:
    """Ioctls for that long; nothing is left of them, and a good program runs right."""
    app, kmod = PROGRAMS / "fuzz.c", PROGRAMS / "fuzz_kmod.c"
    program = build(kbridge, app, kmod, folder / "fuzz", release, "--cflags=-O2 -pthread")
    good = security(kbridge, folder, release)
    # the first run makes what the kernel keeps, such as slabs; then both must say the same
    script = f"""
        echo 5 > /proc/sys/kernel/printk
        state() {{
            /bin/busybox sleep 2
            echo == $(cat /sys/module/kelevate/refcnt) $(ls /sys/module | grep -c kb:) \
                $(grep -cE 'module_alloc|execmem|kvmalloc' /proc/vmallocinfo) \
                $(awk '/Percpu/ {{ print $2 }}' /proc/meminfo)
            awk '/SUnreclaim/ {{ print "slab", $2 }}' /proc/meminfo
        }}
        {program} 3 && state && {program} {seconds} && state && {good} disabled
        echo status $?
    """
    files = [word for file in (*LIBRARIES, program, good) for word in ("--file", f"{file}:{file}")]
    log = folder / "console"
    how = ["--kernel", release, "--memory", "2048", "--append", SLUB, *files]
    how += ["--timeout", str(seconds + 120)]
    done = kbridge(
        *("run", *how, "/bin/busybox", "sh", "-c", script),
        env=console_log_environment(log),
        timeout=seconds + 300,
    )
    said = done.stdout
    assert said.endswith("status 0\n"), said + done.stderr
    assert "FAIL" not in said
    states = re.findall(r"^== (.*)$", said, re.MULTILINE)
    assert len(states) == 2
    assert states[0] == states[1], said
    assert states[0].startswith("0 0 "), said  # no instance is left, kelevate could be unloaded
    before, after = (int(size) for size in re.findall(r"^slab (\d+)$", said, re.MULTILINE))
    assert after - before < 8192, said  # KiB
    counts = [int(count) for count in re.findall(r"(\d+) images loaded", said)]
    assert len(counts) == 2
    assert counts[1] > 0, said
    for error in ("EINVAL", "EFAULT", "ENOEXEC", "ENOTTY", "ENOENT", "EPROTO"):
        assert f"{error}: " in said, said
    unexpected = complaints(log)
    assert not unexpected, said + "\n".join(unexpected)


@pytest.mark.parametrize("release", KERNELS)
def test_fuzzed_ioctls(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    """And, at the end of that boot, kernel.modules_disabled."""
    fuzz(kbridge, tmp_path, release, 15)


@pytest.mark.slow
@pytest.mark.parametrize("release", KERNELS)
def test_fuzzed_ioctls_for_ten_minutes(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    fuzz(kbridge, tmp_path, release, 600)


# Signatures


def signed(module: Path, kdir: Path, folder: Path) -> Path:
    """kelevate.ko, signed as docs/security.md says it, with a key that no kernel knows."""
    key, certificate, out = folder / "key.pem", folder / "key.der", folder / "signed.ko"
    request = ["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    request += ["-subj", "/CN=kelevate test key/", "-outform", "DER"]
    subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    subprocess.run(
        [kdir / "scripts/sign-file", "sha256", key, certificate, module, out], check=True
    )
    shown = subprocess.run(
        ["/sbin/modinfo", "-F", "signer", out], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "kelevate test key\n"
    return out


@pytest.mark.parametrize("release", KERNELS)
def test_signatures_where_they_are_enforced(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    """A module of the kernel's own loads; ours, unsigned or by a key that it does not know, not."""
    module = Path(kbridge("kelevate", "--kernel", release).stdout.strip())
    other = signed(module, target.find(release).kdir, tmp_path)
    script = f"""
        cut -d ' ' -f 1 /proc/modules
        insmod {module} 2>&1; insmod {other} 2>&1; ls /dev/kelevate 2>&1
    """
    files = [word for file in (module, other) for word in ("--file", f"{file}:{file}")]
    log = tmp_path / "console"
    how = ["--kernel", release, "--timeout", "120", "--append", "module.sig_enforce=1"]
    done = kbridge(
        *("run", *how, "--module", "vfat", *files, "/bin/busybox", "sh", "-c", script),
        env=console_log_environment(log),
    )
    assert "vfat\n" in done.stdout, done.stdout + done.stderr
    assert f"can't insert '{module}': Key was rejected by service" in done.stdout, done.stdout
    assert f"can't insert '{other}': Key was rejected by service" in done.stdout, done.stdout
    assert "/dev/kelevate: No such file or directory" in done.stdout
    assert not complaints(log)


# The generic flavour, which knows x32


def generic_headers(release: str) -> Path:
    """The header folder of the generic flavour beside a cloud kernel, unpacked in the cache.

    What its two packages share, the common headers and Kbuild's programs, is installed.
    """
    name = f"linux-headers-{release.replace('-cloud', '')}"
    version = packages.installed_version(f"linux-headers-{release}")
    folder = paths.cache("sources") / f"{name}_{version}"
    kdir = folder / "usr/src" / name
    if not kdir.is_dir():
        with packages.beside(folder) as temporary:
            fetched = packages.download(name, version, temporary, what="kernel headers")
            unpacked = temporary / "unpacked"
            subprocess.run(["dpkg-deb", "-x", fetched, unpacked], check=True)
            kbuild = (unpacked / "usr/src" / name / "scripts").readlink().parts[-2]
            (unpacked / "usr/lib").mkdir(exist_ok=True)
            (unpacked / "usr/lib" / kbuild).symlink_to(Path("/usr/lib") / kbuild)
            unpacked.rename(folder)
    return kdir


@pytest.mark.parametrize(
    "release", [KERNELS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in KERNELS[1:])]
)
def test_x32_and_32_bit_programs(kbridge: Kbridge, tmp_path: Path, release: str) -> None:
    """On the generic flavour; kelevate is loaded with a signature that is not enforced."""
    kdir = generic_headers(release)
    generic = release.replace("-cloud", "")
    app, kmod = PROGRAMS / "security.c", PROGRAMS / "security_kmod.c"
    program = tmp_path / "security"
    done = kbridge("build", app, "--kmod", kmod, "-o", program, "--kdir", kdir)
    assert done.returncode == 0, done.stderr
    module = Path(kbridge("kelevate", "--kdir", kdir).stdout.strip())
    module = signed(module, kdir, tmp_path)
    ways = [compat(tmp_path, bits) for bits in ("32", "x32")]
    lines = [f"{program} inherit {way}; echo status $?" for way in ways]
    lines += [f"{program} {word}; echo status $?" for word in ("refused", "audited")]
    script = "; ".join([f"insmod {module}", *lines])
    files = [*LIBRARIES, module, program, *ways]
    share = [word for file in files for word in ("--file", f"{file}:{file}")]
    log = tmp_path / "console"
    how = ["--kernel", generic, "--timeout", "120", "--append", "syscall.x32=y", *share]
    done = kbridge(
        *("run", *how, "/bin/busybox", "sh", "-c", script), env=console_log_environment(log)
    )
    assert done.stdout.count("status 0\n") == 4, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    # of "audited" too: auditing is off in this boot
    assert len(ELEVATES.findall(log.read_text(errors="replace"))) == 4
    assert not complaints(log)
