//! Configuration spaces of PCI functions.

use block::config::{ConfigError, Layout, Space, Structure, find, is_disk};
use proptest::prelude::*;

/// The capabilities of QEMU's disk: MSI-X at 0x98, then structures 5 (to access configuration), 2, 4, 3 and 1.
fn qemu() -> Space {
    let mut space = [0; 256];
    space[..4].copy_from_slice(&[0xf4, 0x1a, 0x42, 0x10]);
    space[6] = 0x10;
    space[0x34] = 0x98;
    space[0x98..0xa4].copy_from_slice(&[0x11, 0x84, 1, 0, 1, 0, 0, 0, 1, 8, 0, 0]);
    capability(&mut space, 0x84, 0x70, 5, [0, 0, 0]);
    capability(&mut space, 0x70, 0x60, 2, [4, 0x3000, 0x1000]);
    space[0x80] = 4;
    capability(&mut space, 0x60, 0x50, 4, [4, 0x2000, 0x1000]);
    capability(&mut space, 0x50, 0x40, 3, [4, 0x1000, 0x1000]);
    capability(&mut space, 0x40, 0, 1, [4, 0, 0x1000]);
    space
}

fn capability(space: &mut Space, at: usize, next: u8, kind: u8, [bar, offset, length]: [u32; 3]) {
    space[at..at + 4].copy_from_slice(&[9, next, 16, kind]);
    for (word, value) in [bar, offset, length].into_iter().enumerate() {
        space[at + 4 * word + 4..][..4].copy_from_slice(&value.to_le_bytes());
    }
}

fn structure(offset: u32) -> Structure {
    Structure { bar: 4, offset, length: 0x1000 }
}

#[test]
fn the_structures_are_found() {
    let [common, interrupt, device, notify] = [0, 0x1000, 0x2000, 0x3000].map(structure);
    assert_eq!(find(&qemu()), Ok(Layout { common, notify, multiplier: 4, interrupt, device }));
    assert!(is_disk(&qemu()) && !is_disk(&[0; 256]));
}

#[test]
fn the_first_of_two_structures_counts() {
    let mut space = qemu();
    // The one at 0x84 is the first in the list.
    capability(&mut space, 0x84, 0x70, 4, [2, 0x400, 0x100]);
    let device = Structure { bar: 2, offset: 0x400, length: 0x100 };
    assert_eq!(find(&space).expect("structures").device, device);
}

#[test]
fn reserved_bits_of_pointers_are_ignored() {
    let mut space = qemu();
    space[0x34] |= 3;
    space[0x99] |= 3;
    assert_eq!(find(&space), find(&qemu()));
}

#[test]
fn bad_spaces_are_errors_with_the_value() {
    let with = |change: &dyn Fn(&mut Space)| {
        let mut space = qemu();
        change(&mut space);
        find(&space)
    };
    assert_eq!(with(&|space| space[6] = 0), Err(ConfigError::NoCapabilities));
    assert_eq!(with(&|space| space[0x41] = 0x98), Err(ConfigError::Circular(0x98)));
    assert_eq!(with(&|space| space[0x41] = 0x40), Err(ConfigError::Circular(0x40)));
    assert_eq!(with(&|space| space[0x34] = 0x3c), Err(ConfigError::Outside(0x3c)));
    // The last capability would end beyond the space.
    let end = |space: &mut Space| {
        space[0x34] = 0xf8;
        space[0xf8..0xfc].copy_from_slice(&[9, 0x98, 16, 1]);
    };
    assert_eq!(with(&end), Err(ConfigError::Outside(0xf8)));
    for (kind, at) in [(1, 0x40), (2, 0x70), (3, 0x50), (4, 0x60)] {
        assert_eq!(with(&|space| space[at + 3] = 9), Err(ConfigError::Missing(kind)));
        let bad = Structure { bar: 6, ..structure(u32::from_le_bytes(qemu()[at + 8..at + 12].try_into().unwrap())) };
        assert_eq!(with(&|space| space[at + 4] = 6), Err(ConfigError::BadStructure(bad)));
    }
    for [offset, length] in [[0xffff_f001, 0x1000], [0x1000, 0]] {
        let bad = Structure { bar: 4, offset, length };
        assert_eq!(
            with(&|space| capability(space, 0x40, 0, 1, [4, offset, length])),
            Err(ConfigError::BadStructure(bad))
        );
    }
}

proptest! {
    #[test]
    fn any_space_has_an_answer(bytes in prop::collection::vec(prop::num::u8::ANY, 256), changes: bool) {
        let mut space: Space = bytes.try_into().expect("256 bytes");
        space[6] |= 0x10;
        if changes {
            // The structures of QEMU's disk, each byte changed with a probability of one in 16.
            for (byte, good) in space.iter_mut().zip(qemu()) {
                *byte = if *byte < 16 { *byte } else { good };
            }
        }
        if let Ok(layout) = find(&space) {
            for structure in [layout.common, layout.notify, layout.interrupt, layout.device] {
                prop_assert!(structure.bar < 6 && structure.length > 0);
                prop_assert!(structure.offset.checked_add(structure.length).is_some());
            }
        }
    }
}
