//! A machine in the host's memory, on which the crate `vm` runs without a kernel.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`machine`] | memory with holes, the frame table: what the kernel's `Machine` is to the kernel |
//! | [`processor`] | translation as the hardware does it, with a TLB |
//!
//! A test makes page maps with [`vm::Space`], and its programs reach memory only through the
//! processor ([`machine::load`], [`machine::store`]), which remembers what it has seen. So an
//! `invalidate` that is missing shows as a program that reads what it should not.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod machine;
pub mod processor;
