// SPDX-License-Identifier: GPL-2.0-only
//! samples/fd_info in Rust: asks the kernel for the position of a file.
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::raw::{c_int, c_longlong};
use std::os::unix::io::{AsRawFd, RawFd};
use std::process;

#[repr(C)]
#[derive(Default)]
struct FdInfo {
    pid: c_int,
    position: c_longlong,
}

extern "C" {
    fn fd_info(fd: c_int, info: *mut FdInfo) -> c_int;
}

fn kernel_info(fd: RawFd) -> io::Result<FdInfo> {
    let mut info = FdInfo::default();
    match unsafe { fd_info(fd, &mut info) } {
        0 => Ok(info),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

fn main() -> io::Result<()> {
    let path = std::env::temp_dir().join(format!("fd_info.{}", process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    file.write_all(b"Hello, kernel!\n")?;

    let (pid, fd) = (process::id(), file.as_raw_fd());
    let info = kernel_info(fd)?;
    println!(
        "the kernel says: pid {} (getpid() says {pid}), file position {} of fd {fd}",
        info.pid, info.position
    );
    process::exit(!(info.pid as u32 == pid && info.position == 15) as i32)
}
