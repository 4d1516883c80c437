# SPDX-License-Identifier: GPL-2.0-only
"""samples/fd_info in Python: asks the kernel for the position of a file."""

import ctypes
import os
import sys
import tempfile


class FdInfo(ctypes.Structure):
    """struct fd_info of samples/fd_info/fd_info_kmod.h."""

    _fields_ = (("pid", ctypes.c_int), ("position", ctypes.c_longlong))


kmod = ctypes.CDLL("libfd_info.so")


def kernel_info(fd: int) -> FdInfo:
    info = FdInfo()
    error = kmod.fd_info(fd, ctypes.byref(info))
    if error:
        raise OSError(-error, os.strerror(-error))
    return info


with tempfile.TemporaryFile(buffering=0) as file:
    file.write(b"Hello, kernel!\n")
    fd, pid = file.fileno(), os.getpid()
    info = kernel_info(fd)
    print(
        f"the kernel says: pid {info.pid} (getpid() says {pid}), "
        f"file position {info.position} of fd {fd}"
    )
    sys.exit(not (info.pid == pid and info.position == 15))
