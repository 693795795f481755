//! Requests that take the kernel long: no entry may take longer than promised, whatever the request.

use crate::exhaust::{self, HOARD};
use crate::family::{self, child, reaches};
use crate::{checks::Checks, longest::Longest, search};
use core::sync::atomic::Ordering::Relaxed;
use libos::{EnvId, Fork, Level, PageOp, Perms, Status, Va, abi::Call, fork, ipc, println, sys, windows};

const BASE: Va = Va(0x2000_0000_0000);
const SLOT: u64 = 1 << 39;
/// As many environments as are practical.
const CROWD: usize = 600;

/// Makes each of these requests once, and checks the longest entry after each.
pub fn entries(checks: &mut Checks) {
    let mut longest = Longest::new(checks);
    search::all(&mut longest);
    spread(&mut longest);
    let all: [(&str, fn()); 14] = [
        ("a table of marks", marks),
        ("tables that go with their only page", only_pages),
        ("a list of everything", lists),
        ("tables that are shared, and owned", tables),
        ("many tables that are shared, and given up", many_tables),
        ("private tables that go with their pages", private_tables),
        ("many tables that are protected", many_sealed),
        ("pages here and there after a long run", here_and_there),
        ("pages here and there after a table that is kept", kept),
        ("pages far from each other that go", sparse),
        ("children that were stopped before they ran", stopped),
        ("children of one that ends", children),
        ("many that wait for one that ends", awaited),
        ("pages when there are hardly any", exhausted),
    ];
    for (what, make) in all {
        make();
        let is_over = quiet();
        longest.that("what ends has ended", is_over);
        longest.look(&what);
    }
    for (call, count) in Call::ALL.iter().zip(&windows::machine().longest_by_call) {
        println!("longest {} {}", call.name(), count.load(Relaxed));
    }
}

/// Waits until no environment is ending: entries of its teardown would be counted together with the work of programs on
/// other processors. (An emulator with timers may execute that in between.)
fn quiet() -> bool {
    family::becomes(|| windows::envs().iter().all(|env| env.status() != Status::Dying))
}

fn marks() {
    let _ = sys::mark(EnvId::SELF, BASE, 512, 1);
    let _ = sys::unmap(EnvId::SELF, BASE, 512);
}

/// The start of a slot of the top-level page table.
fn slot(number: usize) -> Va {
    Va(BASE.0 + number as u64 * SLOT)
}

fn only_pages() {
    let list = |op: fn(Va) -> PageOp| -> [PageOp; 64] { core::array::from_fn(|number| op(slot(number))) };
    let _ = sys::page_ops(&list(|va| PageOp::alloc(EnvId::SELF, va, 1, Perms::WRITE)));
    let _ = sys::page_ops(&list(|va| PageOp::unmap(EnvId::SELF, va, 1)));
}

fn lists() {
    let op = |number: usize| {
        let va = BASE.add_pages(600 * (number as u64 / 4));
        match number % 4 {
            0 => PageOp::alloc(EnvId::SELF, va, 1, Perms::WRITE),
            1 => PageOp::protect(EnvId::SELF, va, 1, Perms::READ),
            2 => PageOp::map(EnvId::SELF, va, EnvId::SELF, va.add_pages(1), 1, Perms::READ),
            _ => PageOp::unmap(EnvId::SELF, va, 2),
        }
    };
    let _ = sys::page_ops(&core::array::from_fn::<_, 64, _>(op));
}

/// A full page table, with pages of two kinds, alternating, and a child that shares it.
fn tables() {
    let me = EnvId::SELF;
    let _ = sys::alloc(me, BASE, 512, Perms::WRITE);
    for page in (0..512).step_by(2) {
        let _ = sys::protect(me, BASE.add_pages(page), 1, Perms::READ);
    }
    let other = sys::exofork().expect("a child");
    let _ = sys::share_tables(me, BASE, other, BASE, 1, Level::L2);
    let _ = sys::own_tables(BASE, 1, Level::L2);
    family::end(other);
    let _ = sys::unmap(me, BASE, 512);
}

/// Page tables with pages spread over them, a fixed number in each line of eight entries: one is copied or kept, and
/// then the rest of the entry's budget is used up.
fn spread(longest: &mut Longest) {
    for (pages, in_line) in [(8, 1), (64, 1), (128, 2), (192, 3), (256, 4), (257, 5), (448, 7)] {
        for alternating in [false, true] {
            for is_kept in [false, true] {
                for fills in [false, true] {
                    let parent = child(|| own_spread(pages, in_line, alternating, is_kept, fills));
                    let _ = parent.wait();
                    longest.look(&("spread", pages, alternating, is_kept, fills));
                }
            }
        }
    }
}

/// Owns a page table that was shared. If the table is kept, its pages are mapped elsewhere, too.
fn own_spread(pages: u64, in_line: u64, alternating: bool, is_kept: bool, fills: bool) {
    let me = EnvId::SELF;
    let others = [slot(1), slot(1).add_pages(512)];
    others.into_iter().for_each(|va| _ = sys::alloc(me, va, 1, Perms::WRITE));
    for page in 0..pages {
        let va = BASE.add_pages(8 * (page / in_line) + page % in_line);
        let perms = if alternating && page % 2 == 0 { Perms::READ } else { Perms::WRITE };
        let _ = sys::alloc(me, va, 1, perms);
        if is_kept {
            let _ = sys::map(me, va, me, slot(2).add_pages(page), 1, Perms::READ);
        }
    }
    let other = sys::exofork().expect("a child");
    let _ = sys::share_tables(me, BASE, other, BASE, 1, Level::L2);
    if is_kept {
        family::end(other);
    }
    let own = PageOp::own_tables(BASE, 1, Level::L2);
    if fills {
        let _ = sys::page_ops(&[own, PageOp::alloc(me, others[0], 200, Perms::WRITE)]);
    } else {
        and_then(own, others);
    }
}

fn many_tables() {
    let me = EnvId::SELF;
    for table in 0..100 {
        let _ = sys::alloc(me, BASE.add_pages(512 * table), 1, Perms::WRITE);
    }
    let other = sys::exofork().expect("a child");
    let _ = sys::share_tables(me, BASE, other, BASE, 100, Level::L2);
    let _ = sys::unmap_tables(me, BASE, 100, Level::L2);
    family::end(other);
}

/// Full page tables that are private: of pages that are nowhere else, that are all in another table, and that
/// alternate.
fn private_tables() {
    let me = EnvId::SELF;
    let _ = sys::alloc(me, BASE, 3 * 512, Perms::WRITE);
    let _ = sys::map(me, BASE.add_pages(512), me, slot(1), 512, Perms::READ);
    for page in (0..512).step_by(2) {
        let _ = sys::map(me, BASE.add_pages(1024 + page), me, slot(2).add_pages(page), 1, Perms::READ);
    }
    for (va, tables) in [(BASE, 3), (slot(1), 1), (slot(2), 1)] {
        let _ = sys::unmap_tables(me, va, tables, Level::L2);
    }
}

/// Protects many page tables: alone, and in a list with pages.
fn many_sealed() {
    const TABLES: u32 = 250;
    let me = EnvId::SELF;
    let alloc =
        |env| (0..TABLES.into()).for_each(|table| _ = sys::alloc(env, BASE.add_pages(512 * table), 1, Perms::WRITE));
    let other = sys::exofork().expect("a child");
    for env in [me, other] {
        alloc(env);
        for perms in [Perms::READ, Perms::WRITE] {
            let _ = sys::protect_tables(env, BASE, TABLES.into(), Level::L2, perms);
        }
        let seal = PageOp::protect_tables(env, BASE, 60, Level::L2, Perms::READ);
        let _ = sys::page_ops(&[seal, PageOp::alloc(me, slot(1), 200, Perms::WRITE)]);
    }
    family::end(other);
    for table in 0..TABLES.into() {
        let _ = sys::unmap(me, BASE.add_pages(512 * table), 1);
    }
    let _ = sys::unmap(me, slot(1), 200);
}

/// Makes a list that begins with `first`, and then changes one page after the other, alternating between two page
/// tables.
fn and_then(first: PageOp, pages: [Va; 2]) {
    let protect = |number: usize| PageOp::protect(EnvId::SELF, pages[number % 2], 1, Perms::READ);
    let _ = sys::page_ops(&core::array::from_fn::<_, 64, _>(|number| match number {
        0 => first,
        _ => protect(number),
    }));
}

fn here_and_there() {
    let pages = [BASE, BASE.add_pages(512)];
    for va in pages {
        let _ = sys::alloc(EnvId::SELF, va, 1, Perms::WRITE);
    }
    for count in [8, 16, 24, 32] {
        let run = BASE.add_pages(1);
        and_then(PageOp::alloc(EnvId::SELF, run, count, Perms::WRITE), pages);
        let _ = sys::unmap(EnvId::SELF, run, u64::from(count));
    }
    pages.into_iter().for_each(|va| _ = sys::unmap(EnvId::SELF, va, 1));
}

/// The other environment has copied the page table, and so has references to all of its pages.
fn kept() {
    let own = |va, lowest: Level| lowest.down_to().for_each(|level| _ = sys::own_tables(va, 1, level));
    let pages = [SLOT, 2 * SLOT].map(|offset| Va(BASE.0 + offset));
    for va in pages {
        let _ = sys::alloc(EnvId::SELF, va, 1, Perms::WRITE);
    }
    let _ = sys::alloc(EnvId::SELF, BASE, 512, Perms::WRITE);
    let fork = fork::fork().expect("a child");
    let Fork::Parent(other) = fork else {
        own(BASE, Level::L2);
        family::listen();
        sys::exit(0)
    };
    let _ = reaches(other.id(), Status::Receiving);
    own(BASE, Level::L3);
    pages.into_iter().for_each(|va| own(va, Level::L2));
    and_then(PageOp::own_tables(BASE, 1, Level::L2), pages);
    family::end(other.id());
    let _ = sys::unmap(EnvId::SELF, BASE, 512);
    pages.into_iter().for_each(|va| _ = sys::unmap(EnvId::SELF, va, 1));
}

fn sparse() {
    let parent = child(|| {
        (0..512).for_each(|page| _ = sys::alloc(EnvId::SELF, BASE.add_pages(8 * page), 1, Perms::WRITE));
    });
    let _ = parent.wait();
}

/// Stopped children that are still in the run queue. (Made only where none of them can run meanwhile: it would be
/// killed, and the report about that is the one entry that takes longer.)
fn stopped() {
    let machine = windows::machine();
    if machine.cpus.load(Relaxed) > 1 || machine.tick_ns.load(Relaxed) > 0 {
        return;
    }
    let mut crowd = [EnvId::NONE; 3 * CROWD];
    for id in &mut crowd {
        *id = sys::exofork().expect("a child");
        let _ = sys::set_status(*id, Status::Runnable);
        let _ = sys::set_status(*id, Status::Stopped);
    }
    sys::yield_now();
    crowd.into_iter().for_each(family::end);
}

fn children() {
    for count in [63, 64, 200] {
        let parent = child(|| {
            (0..count).for_each(|_| _ = sys::exofork());
            let _ = sys::alloc(EnvId::SELF, BASE, 600, Perms::WRITE);
        });
        let _ = parent.wait();
    }
}

fn awaited() {
    let victim = child(family::listen);
    let mut crowd = [None; CROWD];
    for member in &mut crowd {
        *member = Some(child(|| _ = ipc::recv_from(victim.id())));
    }
    for member in crowd.iter().flatten() {
        let _ = reaches(member.id(), Status::Receiving);
    }
    family::end(victim.id());
    for member in crowd.into_iter().flatten() {
        let _ = member.wait();
    }
}

/// Frames are searched at every processor, for pages and for page tables; and page tables are owned, without a frame
/// for a copy.
fn exhausted() {
    let me = EnvId::SELF;
    let _ = sys::alloc(me, BASE, 512, Perms::WRITE);
    let other = sys::exofork().expect("a child");
    let _ = sys::share_tables(me, BASE, other, BASE, 1, Level::L2);
    exhaust::make_private();
    let (pages, _) = exhaust::take_all();
    let own = PageOp::own_tables(BASE, 1, Level::L2);
    let alloc = |number: usize| PageOp::alloc(me, slot(number + 1), 1, Perms::WRITE);
    let unmap = |number: usize| PageOp::unmap(me, slot(number + 1), 1);
    for left in 0..40 {
        let _ = sys::page_ops(&core::array::from_fn::<_, 64, _>(alloc));
        let _ = sys::page_ops(&core::array::from_fn::<_, 64, _>(unmap));
        if left == 0 {
            let _ = sys::page_ops(&[own]);
        }
        let _ = sys::unmap(me, HOARD.add_pages(left), 1);
    }
    let _ = sys::unmap(me, HOARD.add_pages(40), pages - 40);
    family::end(other);
    let _ = sys::unmap(me, BASE, 512);
}
