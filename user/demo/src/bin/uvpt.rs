//! Walks the page tables of a page, level by level, through their own window; shows uvpt[0].
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use libos::{Level, PAGE_SIZE, Va, layout, println, raw, upcall, uvpt};

libos::entry!(main);

fn main() {
    let on_heap = Box::new(7_u64);
    let on_stack = 7_u64;
    show("code", layout::TEXT);
    show("heap", Va(&raw const *on_heap as u64));
    show("stack", Va(&raw const on_stack as u64));
    show("nothing", Va(0));
    show("nothing far and wide", Va(0x5000_0000_0000));

    // The entry of address 0. Nothing is mapped there; programs begin at 2 MiB, under the next page table, so even the
    // page table may be missing. Level 2 shows that, and must be read first.
    println!("uvpt[0] is at {}", layout::UVPT);
    match uvpt::entry(Va(0), Level::L1) {
        Some(entry) => println!("uvpt[0] = {:#x}: {entry:?}", entry.0),
        None => println!("uvpt[0] is not there: no table covers the first 2 MiB"),
    }
    let first = layout::TEXT.0 / PAGE_SIZE;
    let entry = uvpt::pte(layout::TEXT);
    println!("uvpt[{first:#x}] = {:#x}: {entry:?}", entry.0);
    assert_eq!(entry.0, raw::read_u64(layout::UVPT.0 + 8 * first));
    assert!(!upcall::in_handler());
}

/// The four entries that translate an address.
fn show(what: &str, va: Va) {
    println!("{what}: {va}");
    for level in Level::DOWN {
        let at = layout::uvpt(va, level);
        match uvpt::entry(va, level) {
            Some(entry) => println!("  level {level}, entry {:3} at {at}: {entry:?}", va.index(level)),
            None => println!("  level {level}: no table"),
        }
    }
    // The window of level 1 and an explicit walk must agree.
    let expected = uvpt::entry(va, Level::L1).unwrap_or_default();
    assert_eq!(uvpt::pte(va), expected);
}
