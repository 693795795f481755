//! The contract of the Faultline kernel.
//!
//! Every number, address, layout and error that the kernel and its users must agree on is defined in this crate and
//! nowhere else. The kernel, `libos` and the host tools all import it.
//!
//! | module | what it defines |
//! | --- | --- |
//! | [`layout`] | the address space, as a picture and as constants |
//! | [`call`] | the system calls: numbers, names, arguments, results |
//! | [`register`] | the kinds of arguments |
//! | [`console`] | the encoding of the console's input |
//! | [`error`] | every error, its cause and the offending value |
//! | [`page`] | addresses, page frames, permissions, page table entries |
//! | [`ops`] | one entry of the batched call `page_ops` |
//! | [`env`](mod@env) | environments: ids, states, registers, exit statuses |
//! | [`fault`] | exceptions: vectors and the frame that an upcall receives |
//! | [`window`] | the contents of the read-only windows |
//! | [`boot`] | the interface between the kernel and the host tools |

#![no_std]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod boot;
pub mod call;
pub mod console;
pub mod env;
pub mod error;
pub mod fault;
pub mod layout;
pub mod ops;
pub mod page;
pub mod register;
pub mod status;
pub mod window;

pub use call::{Arguments, Call, args};
pub use env::{Awaited, EnvId, ExitStatus, Registers};
pub use error::Error;
pub use fault::{Fault, Vector};
pub use ops::PageOp;
pub use page::{Frame, Level, PAGE_SIZE, Perms, Pte, Va};
pub use status::Status;
