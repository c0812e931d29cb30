//! Tells the program what it was built with.

use std::env;
use std::process::Command;

fn main() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().ok();
    let version = version.and_then(|output| String::from_utf8(output.stdout).ok());
    // "rustc 1.95.0 (59807616e 2026-04-14)": the first two words.
    let version = version
        .as_deref()
        .unwrap_or("rustc unknown")
        .split(' ')
        .take(2)
        .collect::<Vec<_>>()
        .join(" ");
    println!("cargo::rustc-env=KES_RUSTC={}", version.trim());
    println!("cargo::rerun-if-env-changed=KES_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
}
