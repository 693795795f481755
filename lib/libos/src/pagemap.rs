//! A printed map of this environment's address space: its regions, and the pages and marks in them. Reads only UVPT
//! and the frame table.

use crate::regions;
use crate::{Perms, Pte, Va, layout, print, println, uvpt, windows};
use core::ops::Range;
use pager::runs::{Singly, runs};

/// Counts of the pages and marks in a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Pages that are mapped.
    pub resident: u64,
    /// Mapped pages whose frame has other users too.
    pub shared: u64,
    /// Mapped pages that were written since the dirty bit was cleared.
    pub dirty: u64,
    /// Marks: pages whose contents are elsewhere.
    pub marks: u64,
}

/// Counts the pages and marks in a range.
#[must_use]
pub fn usage(range: Range<Va>) -> Usage {
    let mut usage = Usage::default();
    for (_, entry) in uvpt::entries(range) {
        usage.add(entry);
    }
    usage
}

impl Usage {
    fn add(&mut self, entry: Pte) {
        if !entry.is_present() {
            self.marks += 1;
            return;
        }
        self.resident += 1;
        self.shared += u64::from(is_shared(entry));
        self.dirty += u64::from(entry.has(Pte::DIRTY));
    }
}

fn is_shared(entry: Pte) -> bool {
    windows::refs(entry.frame()).is_some_and(|refs| refs > 1)
}

/// Print every region with its counts, and the pages outside of all regions. `pages`: print every page, too.
pub fn print(pages: bool) {
    println!("from             to                   pages rights  resident   shared    dirty  pager");
    let mut from = Va(0);
    for region in regions::all() {
        print_stray(from..region.start, pages);
        print_range(region.range(), region.perms, region.pager.name(), pages);
        from = region.end;
    }
    print_stray(from..layout::USER_LIMIT, pages);
}

/// Prints the pages that the program has mapped outside of all regions.
fn print_stray(range: Range<Va>, pages: bool) {
    for (va, count, perms) in uvpt::runs(range, |entry| Some(entry.perms())) {
        print_range(va..va.add_pages(count), perms, "(no region)", pages);
    }
}

fn print_range(range: Range<Va>, perms: Perms, name: &str, pages: bool) {
    let Usage { resident, shared, dirty, marks } = usage(range.clone());
    let (start, end, count) = (range.start.0, range.end.0, pager::pages(&range));
    print!("{start:016x} {end:016x} {count:>9} {} ", rights(perms));
    print!("{resident:>9} {shared:>8} {dirty:>8}  {name}");
    if marks > 0 {
        print!(", {marks} marks");
    }
    println!();
    if pages {
        print_frames(range);
    }
}

/// The rights as text, a part of `rwxk`. A mapped page can always be read.
fn rights(perms: Perms) -> &'static str {
    let [write, exec, keep] = [Perms::WRITE, Perms::EXEC, Perms::KEEP].map(|right| perms.contains(right));
    match (write, exec, keep) {
        (false, false, false) => "r---",
        (true, false, false) => "rw--",
        (false, true, false) => "r-x-",
        (false, false, true) => "r--k",
        (true, false, true) => "rw-k",
        _ => "r-xk",
    }
}

/// Prints runs of pages with consecutive frames and equal flags.
fn print_frames(range: Range<Va>) {
    // The kind is the entry that the first page of the range would have if the run began there: equal for the whole run.
    let first = range.start;
    let kind = |va: Va, entry: Pte| {
        let step = if entry.is_present() { va.0 - first.0 } else { 0 };
        Some(entry.0.wrapping_sub(step))
    };
    for (va, count, _) in runs(Singly(uvpt::entries(range)), kind) {
        let (entry, more) = (uvpt::pte(va), u64::from(count) - 1);
        print!("  {va}: {entry:?}");
        match more {
            0 => println!(),
            _ if entry.is_present() => {
                println!(", and {more} more up to frame {:#x}", u64::from(entry.frame().0) + more)
            }
            _ => println!(", {count} times"),
        }
    }
}
