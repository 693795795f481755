//! A printed map of this environment's address space: its regions, and the pages and marks in them. Reads only UVPT
//! and the frame table.

use crate::regions;
use crate::{Frame, PAGE_SIZE, Perms, Pte, Va, layout, print, println, uvpt, windows};
use core::ops::Range;

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
    let mut run: Option<(Range<Va>, Perms)> = None;
    for (va, entry) in uvpt::entries(range) {
        let perms = entry.perms();
        match &mut run {
            Some((run, same)) if run.end == va && *same == perms => run.end = va.add_pages(1),
            _ => {
                end_stray(run, pages);
                run = Some((va..va.add_pages(1), perms));
            }
        }
    }
    end_stray(run, pages);
}

fn end_stray(run: Option<(Range<Va>, Perms)>, pages: bool) {
    if let Some((range, perms)) = run {
        print_range(range, perms, "(no region)", pages);
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
    let mut run: Option<(Va, Pte, u64)> = None;
    for (va, entry) in uvpt::entries(range) {
        let continues = |(first, start, count): (Va, Pte, u64)| {
            let step = if entry.is_present() { count * PAGE_SIZE } else { 0 };
            first.add_pages(count) == va && entry.0 == start.0 + step
        };
        match &mut run {
            Some(run) if continues(*run) => run.2 += 1,
            _ => {
                print_run(run);
                run = Some((va, entry, 1));
            }
        }
    }
    print_run(run);
}

fn print_run(run: Option<(Va, Pte, u64)>) {
    let Some((va, entry, count)) = run else { return };
    let Frame(first) = entry.frame();
    if count > 1 && entry.is_present() {
        println!("  {va}: {entry:?}, and {} more up to frame {:#x}", count - 1, u64::from(first) + count - 1);
    } else if count > 1 {
        println!("  {va}: {entry:?}, {count} times");
    } else {
        println!("  {va}: {entry:?}");
    }
}
