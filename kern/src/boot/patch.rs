//! Removal of kernel instructions that this processor does not have, or does not need.

use crate::machine::{control, registers::FpState};
use core::ops::Range;

unsafe extern "C" {
    static __smap_sites: [u64; 0];
    static __smap_sites_end: [u64; 0];
    static __x87_sites: [u64; 0];
    static __x87_sites_end: [u64; 0];
}

/// Replaces instructions that this processor does not have, or does not need, by no-ops.
///
/// # Safety
/// Kernel text can still be written: called on the boot tables.
pub unsafe fn remove_instructions() {
    // SAFETY: the tables are made where the instructions are; a no-op of the same length fits.
    unsafe {
        if !control::has_smap() {
            remove(&raw const __smap_sites..&raw const __smap_sites_end, [0x0f, 0x1f, 0x00]);
        }
        if FpState::is_whole() {
            remove(&raw const __x87_sites..&raw const __x87_sites_end, [0x66, 0x90]);
        }
    }
}

/// # Safety
/// The table holds addresses of instructions of length `N`, and kernel text can be written.
unsafe fn remove<const N: usize>(table: Range<*const [u64; 0]>, no_op: [u8; N]) {
    let mut site = table.start.cast::<u64>();
    while site != table.end.cast() {
        // SAFETY: the caller promises it.
        unsafe {
            (*site as *mut [u8; N]).write(no_op);
            site = site.add(1);
        }
    }
}
