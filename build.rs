//! Passes the linker scripts: `linker.ld` for the kernel, `user/linker.ld` for programs.
//! The packages name this file as their build script.

fn main() {
    let package = std::env::var("CARGO_PKG_NAME").expect("cargo sets CARGO_PKG_NAME");
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let script = match package.as_str() {
        "kern" => format!("{manifest}/../linker.ld"),
        _ => format!("{manifest}/../linker.ld"),
    };
    println!("cargo::rerun-if-changed={script}");
    println!("cargo::rustc-link-arg-bins=-T{script}");
}
