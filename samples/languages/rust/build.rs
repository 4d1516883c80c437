// SPDX-License-Identifier: GPL-2.0-only
//! Hands what pkg-config says to the linker, for each program that of its own kernel side.
use std::process::Command;

/// The words of `pkg-config --libs`, taken apart by a shell: folders may have spaces.
fn libs(package: &str) -> String {
    let script = format!(
        r#"words=$(pkg-config --libs {package}) && eval "set -- $words" && printf '%s\n' "$@""#
    );
    let done = Command::new("sh").args(["-c", &script]).output().expect("cannot start sh");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "pkg-config: {errors}");
    String::from_utf8(done.stdout).expect("a path that is not UTF-8")
}

fn main() {
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    for program in ["cr3", "fd_info"] {
        for word in libs(program).lines() {
            println!("cargo:rustc-link-arg-bin={program}={word}");
        }
    }
}
