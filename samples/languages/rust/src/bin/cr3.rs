// SPDX-License-Identifier: GPL-2.0-only
//! samples/cr3 in Rust: prints CR3, and the privilege level on both sides.
use std::arch::asm;
use std::os::raw::{c_int, c_ulong};
use std::process::ExitCode;

extern "C" {
    fn cr3() -> c_ulong;
    fn privilege_level() -> c_int;
}

fn main() -> ExitCode {
    let cs: u16;
    unsafe { asm!("mov {:x}, cs", out(reg) cs) };
    let (app, kmod, value) = unsafe { (cs & 3, privilege_level(), cr3()) };

    println!("privilege level: app {app}, kmod {kmod}");
    println!("CR3 = {value:#x}");
    ExitCode::from(!(app == 3 && kmod == 0 && value != 0) as u8)
}
