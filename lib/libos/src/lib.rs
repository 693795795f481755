//! The library operating system: everything that programs expect, built on page faults.
//!
//! The kernel hands out page frames and returns every fault to the program that caused it. Policy is in this library:
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`start`] | the first instruction, arguments, `main`, the panic message |
//! | [`sys`] | one safe function for each system call |
//! | [`upcall`] | exception delivery: into user space and back to the interrupted instruction, without the kernel |
//! | [`regions`], [`pager`] | the regions of the address space, and the pagers that serve their faults |
//! | [`mmap`], [`heap`](mod@heap), [`stack`] | memory: mappings, the allocator, the stack |
//! | [`faults`] | dispatch of a page fault to its pager; what happens when memory is exhausted |
//! | [`uvpt`], [`pagemap`] | the page tables, read as memory and printed |
//! | [`mod@fork`], [`spawn`] | new environments: by copy-on-write, or from the boot archive; `exec` |
//! | [`ipc`], [`env`](mod@env), [`console`], [`windows`], [`archive`], [`time`], [`stats`] | the rest of a program's world |
//! | [`device`], [`disk`], [`mod@swap`] | devices, disks, and memory that is larger than the machine |
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
mod backtrace;
pub mod console;
pub mod device;
pub mod disk;
mod door;
pub mod env;
mod error;
mod exec;
mod exofork;
pub mod faults;
pub mod fork;
pub mod heap;
pub mod ipc;
pub mod mmap;
mod page_calls;
pub mod pagemap;
pub mod pages;
pub mod raw;
pub mod regions;
mod resident;
pub mod spawn;
pub mod stack;
pub mod start;
pub mod stats;
pub mod swap;
pub mod symbols;
pub mod sys;
pub mod time;
pub mod upcall;
pub mod uvpt;
pub mod windows;

pub use abi::{
    self, EnvId, ExitStatus, Fault, Frame, Level, PAGE_SIZE, PageOp, Perms, Pte, Registers, Status, Va, Vector, layout,
};
pub use block;
pub use env::{Child, exit};
pub use error::Error;
pub use executable;
pub use fork::{Fork, fork};
pub use page_calls::Sys;
pub use pager::{self, Access, Cause, Inherit, PageCalls, Pager, Resolution, Touch};
pub use regions::Region;
pub use spawn::Command;
pub use start::{Args, ExitCode};
