# SPDX-License-Identifier: GPL-2.0-only
"""An unmodified Python program that says in which ring its parts run, by the code segment.

A line is PART and 33 (ring 3) or 10 (ring 0), or PART and what it found.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

_PAGE = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
_PAGE.write(bytes.fromhex("8cc8c3"))  # mov %cs,%eax; ret
_SEGMENT = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(_PAGE)))


def ring(_: object = None) -> str:
    return f"{_SEGMENT():x}"


def say(part: str, *words: object) -> None:
    print(part, *(words or (ring(),)), flush=True)


def work(count: int = 20000) -> int:
    return len({str(k): [k] * 3 for k in range(count)})


def threads() -> None:
    found: list[str] = []

    def run() -> None:
        work()
        found.append(ring())

    every = [threading.Thread(target=run) for _ in range(4)]
    for one in every:
        one.start()
    for one in every:
        one.join()
    say("threads", *found)


def signals() -> None:
    came: list[str] = []
    signal.signal(signal.SIGUSR1, lambda *_: came.append(ring()))
    signal.signal(signal.SIGALRM, lambda *_: came.append(ring()))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    while len(came) < 10:
        work(100)
    signal.setitimer(signal.ITIMER_REAL, 0)
    say("signals", *sorted(set(came)))


def child(what: str) -> None:
    """Fork; say how the child ended."""
    pid = os.fork()
    if not pid:
        if what == "fork":
            say(what)
        else:
            ctypes.string_at(0)  # a fault of its own
        os._exit(0)
    say(f"{what} ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def processes() -> None:
    child("fork")
    child("fault")
    words = [sys.executable, __file__, "part"]
    say("subprocess", subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        say("pool", *sorted(set(pool.map(ring, range(8)))))


async def tasks() -> None:
    loop = asyncio.get_running_loop()
    words = (sys.executable, __file__, "part")
    process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    (said, _), in_thread, _ = await asyncio.gather(
        process.communicate(), loop.run_in_executor(None, ring), asyncio.sleep(0.01)
    )
    say("asyncio", said.decode().strip(), in_thread, ring())


def main() -> None:
    if sys.argv[1:] == ["part"]:
        print(ring(), end="")
        return
    say("main")
    threads()
    signals()
    processes()
    asyncio.run(tasks())
    say("worked", work(100000))


if __name__ == "__main__":
    main()
