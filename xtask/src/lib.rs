//! Builds, boots, tests and measures Faultline.
//!
//! A command line tool (`cargo xtask`), and the library behind it, which the guest tests use too.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`cli`] | the command line |
//! | [`run`], [`test`], [`bench`], [`gdb`], [`doctor`], [`list`], [`grade`] | the subcommands |
//! | [`clippy`], [`doc`], [`picture`], [`ci`] | the subcommands that check and document the repository |
//! | [`workspace`] | where things are, and which programs there are |
//! | [`images`], [`cargo`], [`config`] | builds the kernel and the programs |
//! | [`simd`] | which code may touch no vector register, and the check |
//! | [`archive`] | packs the programs for the kernel |
//! | [`machine`], [`install`], [`emulator`] | an emulator: its command line, installation, version |
//! | [`disk`], [`disk_option`], [`disk_image`] | the disks of a machine, the option `--disk`, the files behind them |
//! | [`size`] | sizes as one types them |
//! | [`kill_on_exit`] | no emulator outlives the tool |
//! | [`session`], [`report`], [`input`] | one run of a machine: console, input, verdict |
//! | [`cycle_costs`] | the cost of expensive instructions |
//! | [`comparison`] | the costs of other systems |
//! | [`symbols`] | maps addresses to functions and lines |
//! | [`terminal`], [`interrupt`] | what must be restored before the tool ends |
//!
//! The guest's output goes to stdout; messages of the tool go to stderr.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod archive;
pub mod bench;
pub mod cargo;
pub mod ci;
pub mod cli;
pub mod clippy;
pub mod comparison;
pub mod config;
pub mod cycle_costs;
pub mod disk;
pub mod disk_image;
pub mod disk_option;
pub mod doc;
pub mod doctor;
pub mod emulator;
pub mod gdb;
pub mod grade;
pub mod images;
pub mod input;
pub mod install;
pub mod interrupt;
pub mod kill_on_exit;
pub mod list;
pub mod machine;
pub mod new;
pub mod outside;
pub mod picture;
pub mod report;
pub mod row;
pub mod run;
pub mod scale;
pub mod session;
pub mod simd;
pub mod size;
pub mod symbols;
pub mod terminal;
pub mod test;
pub mod workspace;

/// Prints a message of the tool to stderr, so that stdout is the guest's alone.
///
/// A closed stderr is not worth a panic.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "xtask: {}", format_args!($($arg)*));
    }};
}
