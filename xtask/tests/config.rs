//! The caller's configuration of cargo, and the variables, change no image.
//!
//! A small workspace of the same shape as this one is built twice: once normally, and once with every setting of cargo
//! that could change it. (A program of the host stands for an image: it needs no linker script.)

use std::{fs, path::Path, process::Command};
use xtask::cargo::Cargo;

/// The variable that tells a copy of this executable where to build.
const ROOT: &str = "CONFIG_TEST_ROOT";

const MANIFEST: &str = "\
[workspace]
resolver = '3'
members = ['kern', 'part']
[profile.release]
panic = 'abort'
[profile.kernel]
inherits = 'release'
codegen-units = 1
debug = 'line-tables-only'
";
const PART: &str = "\
#[inline(never)]
pub fn sum(n: u8) -> u32 { (0..=n).map(u32::from).sum() }
";
const KERN: &str = "\
fn main() {
    let shown = [option_env!(\"HOSTILE\"), option_env!(\"RUSTC_BOOTSTRAP\")];
    println!(\"{shown:?} {} {} {}\", cfg!(hostile), cfg!(debug_assertions), part::sum(std::env::args().count() as u8));
}
";
/// Every table that can change what is built, with every key of a profile.
const HOSTILE: &str = "\
paths = ['other']
[build]
target = 'thumbv7m-none-eabi'
target-dir = 'elsewhere'
build-dir = 'elsewhere'
rustc-wrapper = 'false'
rustc-workspace-wrapper = 'false'
rustflags = ['--cfg=hostile']
incremental = true
jobs = 1
[env]
HOSTILE = { value = 'yes', force = true }
[target.x86_64-unknown-linux-gnu]
linker = 'false'
runner = 'false'
rustflags = ['--cfg=hostile']
[target.'cfg(all())']
rustflags = ['--cfg=hostile']
[profile.release]
strip = true
opt-level = 0
debug = 2
split-debuginfo = 'packed'
debug-assertions = true
overflow-checks = true
lto = 'thin'
panic = 'unwind'
incremental = true
codegen-units = 7
rpath = true
[profile.release.package.'*']
opt-level = 1
[profile.release.build-override]
opt-level = 3
[profile.kernel]
inherits = 'dev'
strip = true
lto = false
[profile.kernel.package.part]
opt-level = 0
debug-assertions = true
[term]
quiet = true
verbose = false
";
const VARIABLES: [(&str, &str); 22] = [
    ("HOSTILE_BUT_UNKNOWN", "1"),
    ("CARGO_BUILD_TARGET", "thumbv7m-none-eabi"),
    ("CARGO_TARGET_DIR", "elsewhere"),
    ("CARGO_BUILD_BUILD_DIR", "elsewhere"),
    ("CARGO_ENCODED_RUSTFLAGS", "--cfg=hostile"),
    ("RUSTFLAGS", "--cfg=hostile"),
    ("CARGO_BUILD_RUSTFLAGS", "--cfg=hostile"),
    ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", "false"),
    ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "--cfg=hostile"),
    ("CARGO_PROFILE_KERNEL_STRIP", "symbols"),
    ("CARGO_PROFILE_KERNEL_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
    ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true"),
    ("CARGO_INCREMENTAL", "1"),
    ("CARGO_UNSTABLE_BUILD_STD", "core"),
    ("RUSTC", "false"),
    ("RUSTC_WRAPPER", "false"),
    ("RUSTC_WORKSPACE_WRAPPER", "false"),
    ("CARGO_BUILD_RUSTC_WRAPPER", "false"),
    ("RUSTC_BOOTSTRAP", "1"),
    ("RUSTUP_TOOLCHAIN", "no-such-toolchain"),
    ("__CARGO_DEFAULT_LIB_METADATA", "hostile"),
];

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn workspace(root: &Path) {
    put(&root.join("Cargo.toml"), MANIFEST);
    let pinned = concat!(env!("CARGO_MANIFEST_DIR"), "/../rust-toolchain.toml");
    fs::copy(pinned, root.join("rust-toolchain.toml")).unwrap();
    let package = |name: &str| format!("[package]\nname = '{name}'\nedition = '2024'\n");
    put(&root.join("kern/Cargo.toml"), &format!("{}[dependencies]\npart.path = '../part'\n", package("kern")));
    put(&root.join("kern/src/main.rs"), KERN);
    put(&root.join("part/Cargo.toml"), &package("part"));
    put(&root.join("part/src/lib.rs"), PART);
    put(&root.join("other/Cargo.toml"), &package("part"));
    put(&root.join("other/src/lib.rs"), "pub fn sum(_: u8) -> u32 { 0 }\n");
}

/// Builds with the caller's configuration as it is, and prints only cargo's messages.
#[test]
fn build() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let root = Path::new(&root);
    let cargo = Cargo {
        command: "build",
        manifest: root.join("Cargo.toml"),
        packages: vec!["kern".to_owned()],
        profile: "kernel",
        features: Vec::new(),
        target_dir: root.join("target/kernel"),
        flags: vec!["-Clinker=cc".to_owned()],
        root: root.to_owned(),
        strict: false,
        verbose: true,
    };
    let built = cargo.run().unwrap();
    let [kern] = built.as_slice() else { panic!("{built:?}") };
    fs::copy(&kern.path, root.join("image")).unwrap();
}

/// The bytes of the resulting image.
fn image(root: &Path, variables: &[(&str, &str)]) -> Vec<u8> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "build", "--nocapture"]).env(ROOT, root).envs(variables.iter().copied());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_dir_all(root.join("target")).unwrap();
    fs::read(root.join("image")).unwrap()
}

#[test]
fn no_configuration_changes_an_image() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("above/checkout");
    let home = directory.path().join("home");
    workspace(&root);
    let ordinary = image(&root, &[]);
    put(&root.join("../.cargo/config.toml"), HOSTILE);
    assert!(image(&root, &[]) == ordinary, "a file above the checkout changes the image");
    put(&home.join("config.toml"), HOSTILE);
    fs::remove_dir_all(root.join("../.cargo")).unwrap();
    let home = [("CARGO_HOME", home.to_str().unwrap())];
    assert!(image(&root, &home) == ordinary, "the user's file changes the image");
    assert!(image(&root, &VARIABLES) == ordinary, "a variable changes the image");
}
