//! The library operating system: everything that programs expect, built on page faults.
//!
//! The kernel hands out page frames and gives every fault back to its program. Policy is here:
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`start`] | the first instruction, arguments, `main`, the panic message |
//! | [`sys`] | one safe function for each system call |
//! | [`upcall`] | the fault's way into user space and back, without the kernel |
//! | [`pager`] | what happens on a fault: copy-on-write, lazy heap, growing stack |
//! | [`uvpt`] | the page tables, read as memory |
//! | [`mod@fork`], [`spawn`] | new environments: by copy-on-write, or from the boot archive |
//! | [`ipc`], [`env`](mod@env), [`console`], [`windows`], [`archive`], [`time`], [`stats`] | the rest of a program's world |
//! | [`raw`] | deliberate misbehaviour, for tests |
//!
//! A program:
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! #![forbid(unsafe_code)]
//!
//! libos::entry!(main);
//!
//! fn main() {
//!     libos::println!("hello, world");
//! }
//! ```

#![no_std]
#![warn(missing_docs)]
#![warn(clippy::undocumented_unsafe_blocks)]

extern crate alloc;
#[cfg(not(bare_metal))]
extern crate std; // checked, not built: see the workspace manifest
use mem as _; // memcpy and its kin

pub mod archive;
pub mod console;
mod door;
pub mod env;
mod error;
mod exofork;
pub mod fork;
mod heap;
pub mod ipc;
pub mod pager;
pub mod pages;
pub mod raw;
mod resident;
pub mod spawn;
pub mod start;
pub mod stats;
pub mod sys;
pub mod time;
pub mod upcall;
pub mod uvpt;
pub mod windows;

pub use abi::{
    self, EnvId, ExitStatus, Fault, Frame, PAGE_SIZE, PageOp, Perms, Pte, Registers, Status, Va, Vector,
    layout,
};
pub use env::{Child, exit};
pub use error::Error;
pub use fork::{Fork, fork};
pub use spawn::Command;
pub use start::{Args, ExitCode};
