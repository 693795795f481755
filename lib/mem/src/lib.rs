//! The five functions that compiled code calls to move memory, and two that it only names. The kernel and libos link
//! them in by depending on this crate.
//!
//! In assembly, so that the compiler does not recognise the loops and turn them into calls of these functions. A page
//! fault in the middle is harmless: string instructions continue where they were interrupted.
//!
//! On the host the crate is empty: the C library has these functions.

#![cfg(bare_metal)]
#![no_std]

core::arch::global_asm!(include_str!("mem.s"));
