//! A machine in the host's memory, on which the crate `vm` runs without a kernel.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`machine`] | memory with holes, and the frame table: in place of the kernel's `Machine` |
//! | [`processor`] | translation in the way of the hardware, with a TLB |
//!
//! A test makes page maps with [`vm::PageMap`], and its programs reach memory only through the processor
//! ([`machine::load`], [`machine::store`]), which caches translations. So a missing `invalidate` shows as a program
//! that reads what it should not.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod machine;
pub mod processor;
