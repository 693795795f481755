//! Bad values, each with its error.

use libos::abi::layout::{
    ARCHIVE, ARCHIVE_END, DIRECT_MAP, ENVS, FRAMES, KERNEL_HALF, KERNEL_IMAGE, KERNEL_REGISTERS, MACHINE, UVPT, uvpt,
};
use libos::abi::{Call, Error, Pte};
use libos::layout::{TEXT, USER_LIMIT};
use libos::{Level, PAGE_SIZE, Perms, Va};

/// Addresses of pages that no call may name.
const NOT_FOR_USERS: [u64; 18] = [
    USER_LIMIT.0,
    MACHINE.0 + PAGE_SIZE,
    ENVS.0,
    FRAMES.0,
    ARCHIVE_END.0,
    UVPT.0 - PAGE_SIZE,
    UVPT.0,
    uvpt(Va(0), Level::L2).0,
    uvpt(Va(0), Level::L4).0,
    0x8000_0000_0000,
    // Mapped pages, but with bits set that a page walk ignores.
    TEXT.0 | 1 << 48,
    0x2000_0000_0000 | 1 << 63,
    0x1234_5678_9abc_d000,
    KERNEL_HALF.0 - PAGE_SIZE,
    DIRECT_MAP.0,
    KERNEL_IMAGE.0,
    KERNEL_REGISTERS.0,
    0u64.wrapping_sub(PAGE_SIZE),
];

/// Addresses of one page that a page call must refuse.
pub fn bad_pages() -> impl Iterator<Item = (u64, Error)> {
    let good = 0x5000_0000;
    let crooked = [good + 1, good + 8, good + 0xfff, USER_LIMIT.0 + 1, KERNEL_HALF.0 + 0x800, u64::MAX];
    let crooked = crooked.map(|va| (va, Error::Unaligned(va)));
    crooked.into_iter().chain(NOT_FOR_USERS.map(|va| (va, Error::BadAddress(va))))
}

/// Addresses that a page call must refuse as its target; the boot archive is one of them.
pub fn bad_targets() -> impl Iterator<Item = (u64, Error)> {
    bad_pages().chain([(ARCHIVE.0, Error::BadAddress(ARCHIVE.0))])
}

/// Runs of pages that leave the user's part, or wrap around: first page and count.
pub const BAD_RUNS: [(u64, u64); 5] = [
    (USER_LIMIT.0 - PAGE_SIZE, 2),
    (USER_LIMIT.0 - 5 * PAGE_SIZE, 6),
    (USER_LIMIT.0 - PAGE_SIZE, u32::MAX as u64),
    (USER_LIMIT.0 - (1 << 39), (1 << 27) + 1),
    (USER_LIMIT.0 - (1 << 43), u32::MAX as u64),
];

/// Invalid numbers of pages.
pub const BAD_COUNTS: [u64; 4] = [0, 1 << 32, 1 << 52, u64::MAX];

/// Invalid permission bits, with the bits that the error reports.
pub fn bad_perms() -> impl Iterator<Item = (u64, Error)> {
    bad_perms_but(0)
}

/// Invalid permission bits for a call that gives these bits a meaning.
pub fn bad_perms_but(allowed: u64) -> impl Iterator<Item = (u64, Error)> {
    let good = Perms::all().bits() | allowed;
    let both = (Perms::WRITE | Perms::EXEC).bits();
    let strays = (0..64).map(|bit| 1 << bit).filter(move |bit| good & bit == 0);
    let alone = strays.map(|bit| (bit, bit));
    let more = [
        (both, both),
        (both | Perms::COW.bits(), both),
        (Perms::WRITE.bits() | Pte::MAY, Pte::MAY),
        (both | 1 << 8, 1 << 8),
        (u64::MAX, !good),
    ];
    alone.chain(more).map(|(bits, wrong)| (bits, Error::BadPerms(wrong)))
}

/// Numbers that are not calls.
pub const BAD_CALLS: [u64; 5] = [Call::ALL.len() as u64, 255, 1 << 32, 1 << 63, u64::MAX];
