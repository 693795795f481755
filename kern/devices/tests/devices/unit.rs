//! The unit is turned on, lets through what the tables say, and forgets what is invalidated.

use crate::simulated::*;
use abi::{Frame, Level, Perms, Pte, Va};
use devices::pci::Function;
use devices::remapping::{
    Domain, Error, Fault, NONE, Table, Unit, context_entry, interrupt_entry, message, root_entry, set,
};
use std::sync::atomic::Ordering::Relaxed;

const CONTEXTS: Frame = Frame(0x200);
const DEVICE: Function = Function(1 << 3);
const OTHER: Function = Function(2 << 3);
const PAGE: Va = Va(0x3fef_f000);
const DATA: Frame = Frame(0x5000);
const TRIES: u32 = 10;

pub fn start(simulated: &Simulated) -> Result<Unit<'static, &Simulated>, Error> {
    Unit::start(simulated, TRIES, FRAMES, simulated.memory.table(QUEUE))
}

/// A started unit whose bus 0 has a context table.
pub fn started(simulated: &Simulated) -> (Unit<'static, &Simulated>, &'static Table) {
    let unit = start(simulated).expect("it answers");
    set(simulated.memory.table(ROOT), 0, root_entry(CONTEXTS));
    (unit, simulated.memory.table(CONTEXTS))
}

/// Enters a page in a page map with entries of level 3 in its topmost table, in three frames from this one on.
pub fn map(memory: &Memory, top: Frame, page: Va, entry: Pte) {
    let mut table = top;
    for level in [Level::L3, Level::L2] {
        let below = Frame(table.0 + 1);
        let bits = Pte::PRESENT | Pte::WRITABLE | Pte::USER | Pte::EDIT | Pte::ACCESSED;
        memory.table(table)[page.index(level)].store(below.address() | bits, Relaxed);
        table = below;
    }
    memory.table(table)[page.index(Level::L1)].store(entry.0, Relaxed);
}

/// The entry of a writable page, as the kernel makes it.
fn writable(frame: Frame) -> Pte {
    Pte(Pte::page(frame, Perms::WRITE).0 | Pte::MAY)
}

fn faults(unit: &mut Unit<&Simulated>) -> (Vec<Fault>, bool) {
    let mut all = Vec::new();
    let lost = unit.take_faults(|fault| all.push(fault));
    (all, lost)
}

#[test]
fn at_the_start_nothing_passes() {
    for left_on in [0, 1 << 31 | 1 << 30, 1 << 31 | 1 << 26 | 1 << 25] {
        let simulated = Simulated::new();
        simulated.set_status(left_on);
        let mut unit = start(&simulated).expect("it answers");
        assert_eq!(simulated.status() & 0x8600_0000, 0x8600_0000, "translation, queue, interrupts");
        assert!(simulated.relaxed.get() > 0);
        assert_eq!(simulated.access(DEVICE, Va(0x1234), false), Err(NO_ROOT_ENTRY));
        assert_eq!(faults(&mut unit).0.len(), 1);
        assert_eq!(simulated.interrupt(DEVICE, message(5)), Err(NO_INTERRUPT_ENTRY));
        assert_eq!(simulated.interrupt(DEVICE, [0xfee0_0000, 0, 0x51]), Err(COMPATIBILITY_FORMAT));
    }
}

#[test]
fn a_device_accesses_its_page_map() {
    let simulated = Simulated::new();
    let (mut unit, contexts) = started(&simulated);
    let (top, reads) = (Frame(0x300), Frame(0x5001));
    map(&simulated.memory, top, PAGE, writable(DATA));
    map(&simulated.memory, top, PAGE.add_pages(1), Pte::page(reads, Perms::EXEC));
    set(contexts, DEVICE.0 as u8, context_entry(top, Domain(7)));
    let at = |page: u64| Va(PAGE.add_pages(page).0 + 0x123);
    assert_eq!(simulated.access(DEVICE, at(0), true), Ok(DATA.address() + 0x123));
    assert_eq!(simulated.access(DEVICE, at(1), false), Ok(reads.address() + 0x123));
    assert_eq!(simulated.access(DEVICE, at(1), true), Err(NO_WRITE));
    assert_eq!(faults(&mut unit), (vec![fault(DEVICE, PAGE.add_pages(1), NO_WRITE, true)], false));
    assert_eq!(simulated.access(DEVICE, at(2), false), Err(NO_READ));
    assert_eq!(simulated.access(OTHER, at(0), false), Err(NO_CONTEXT_ENTRY));
    // There is only one record.
    assert_eq!(faults(&mut unit), (vec![fault(DEVICE, PAGE.add_pages(2), NO_READ, false)], true));
    assert_eq!(faults(&mut unit), (vec![], false));
}

fn fault(source: Function, page: Va, reason: u8, is_write: bool) -> Fault {
    Fault { source, page, reason, is_write }
}

/// The bits that `abi::Pte` gives to programs and to the kernel mean nothing to the unit; those that it leaves out would.
#[test]
fn entries_are_walkable_whatever_bits_they_have() {
    let simulated = Simulated::new();
    let (mut unit, contexts) = started(&simulated);
    let soft = (52..59).map(|bit| 1_u64 << bit);
    let bits = soft.chain([Pte::MAY, Pte::NO_EXEC, Pte::USER, Pte::ACCESSED, Pte::DIRTY, 1 << 9, 1 << 10]);
    for bit in bits {
        let top = Frame(0x300);
        map(&simulated.memory, top, PAGE, Pte(writable(DATA).0 ^ bit));
        set(contexts, DEVICE.0 as u8, context_entry(top, Domain(0)));
        assert_eq!(simulated.access(DEVICE, PAGE, true), Ok(DATA.address()), "{bit:#x}");
        set(contexts, DEVICE.0 as u8, NONE);
        unit.invalidate(Domain(0)).expect("it answers");
    }
    for (entry, reason) in [(writable(DATA).0 | 1 << 11, RESERVED_BIT), (writable(DATA).0 | 1 << 62, RESERVED_BIT)] {
        map(&simulated.memory, Frame(0x300), PAGE, Pte(entry));
        set(contexts, DEVICE.0 as u8, context_entry(Frame(0x300), Domain(0)));
        assert_eq!(simulated.access(DEVICE, PAGE, true), Err(reason));
    }
    map(&simulated.memory, Frame(0x300), PAGE, Pte::mark(Pte::MARK_MAX));
    assert_eq!(simulated.access(DEVICE, PAGE, true), Err(NO_WRITE));
    assert_eq!(simulated.access(DEVICE, PAGE, false), Err(NO_READ));
}

#[test]
fn what_is_removed_is_reached_until_it_is_invalidated() {
    let simulated = Simulated::new();
    let (mut unit, contexts) = started(&simulated);
    for (device, top, domain) in [(DEVICE, Frame(0x300), Domain(7)), (OTHER, Frame(0x400), Domain(8))] {
        map(&simulated.memory, top, PAGE, writable(DATA));
        set(contexts, device.0 as u8, context_entry(top, domain));
        simulated.access(device, PAGE, true).expect("it is mapped");
        set(contexts, device.0 as u8, NONE);
        map(&simulated.memory, top, PAGE, Pte(0));
        assert_eq!(simulated.access(device, PAGE, true), Ok(DATA.address()));
    }
    unit.invalidate(Domain(7)).expect("it answers");
    assert_eq!(simulated.access(DEVICE, PAGE, true), Err(NO_CONTEXT_ENTRY));
    assert_eq!(simulated.access(OTHER, PAGE, true), Ok(DATA.address()), "another domain");
    // A page alone.
    set(contexts, DEVICE.0 as u8, context_entry(Frame(0x300), Domain(7)));
    map(&simulated.memory, Frame(0x300), PAGE, writable(DATA));
    simulated.access(DEVICE, PAGE, true).expect("it is mapped");
    map(&simulated.memory, Frame(0x300), PAGE, Pte(0));
    assert_eq!(simulated.access(DEVICE, PAGE, true), Ok(DATA.address()));
    unit.invalidate(Domain(7)).expect("it answers");
    assert_eq!(simulated.access(DEVICE, PAGE, true), Err(NO_WRITE));
}

#[test]
fn an_interrupt_comes_from_its_function_only() {
    let simulated = Simulated::new();
    let (mut unit, _) = started(&simulated);
    let table = simulated.memory.table(INTERRUPTS);
    for (index, vector, apic) in [(0, 0x40, 0), (5, 0x41, 3), (255, 0xff, 0xff)] {
        set(table, index, interrupt_entry(DEVICE, vector, apic));
        assert_eq!(simulated.interrupt(OTHER, message(index)), Err(BAD_SOURCE));
        assert_eq!(simulated.interrupt(DEVICE, message(index)), Ok((vector, apic)));
        assert_eq!(faults(&mut unit).0, [fault(OTHER, Va(u64::from(index) << 48), BAD_SOURCE, true)]);
    }
    set(table, 5, NONE);
    assert_eq!(simulated.interrupt(DEVICE, message(5)), Ok((0x41, 3)), "it is cached");
    unit.invalidate(Domain(0)).expect("it answers");
    assert_eq!(simulated.interrupt(DEVICE, message(5)), Err(NO_INTERRUPT_ENTRY));
}

/// The queue is a ring: a thousand requests go through it several times.
#[test]
fn the_queue_goes_round() {
    let simulated = Simulated::new();
    let mut unit = start(&simulated).expect("it answers");
    for round in 0..1000_u32 {
        assert_eq!(unit.invalidate(Domain(round as u8)), Ok(()), "round {round}");
    }
}

#[test]
fn units_without_what_is_needed_are_refused() {
    let low = [CAPABILITY & !7 | 1, CAPABILITY | 1 << 4, CAPABILITY | 1 << 7, CAPABILITY & !(1 << 9)];
    let high = [CAPABILITY & !(0x3f << 16) | 37 << 16, CAPABILITY | 0xff << 40, CAPABILITY | 0x3ff << 24];
    for capability in [&low[..], &high].concat() {
        let mut simulated = Simulated::new();
        simulated.capability = capability;
        assert_eq!(start(&simulated).err(), Some(Error::Unsuitable(0x08, capability)), "{capability:#x}");
        assert_eq!(simulated.status(), 0);
    }
    for more in [MORE_CAPABILITY & !2, MORE_CAPABILITY & !8] {
        let mut simulated = Simulated::new();
        simulated.more_capability = more;
        assert_eq!(start(&simulated).err(), Some(Error::Unsuitable(0x10, more)));
    }
}

#[test]
fn a_unit_that_does_not_answer_is_given_up() {
    for (dead, status) in [(1 << 30, 0), (1 << 24, 1 << 30), (1 << 26, 0x4100_0000), (1 << 31, 0x4500_0000)] {
        let mut simulated = Simulated::new();
        simulated.dead = dead;
        assert_eq!(start(&simulated).err(), Some(Error::Stuck(0x1c, status)), "{dead:#x}");
        assert!((TRIES..3 * TRIES).contains(&simulated.relaxed.get()), "{} reads", simulated.relaxed.get());
    }
    let simulated = Simulated::new();
    let mut unit = start(&simulated).expect("it answers");
    simulated.serves.set(false);
    assert_eq!(unit.invalidate(Domain(1)), Err(Error::Stuck(0x9c, 0)));
    // One that answers late, but in time.
    let mut late = Simulated::new();
    late.delay = TRIES;
    assert!(start(&late).is_ok());
    late = Simulated::new();
    late.delay = TRIES + 2;
    assert_eq!(start(&late).err(), Some(Error::Stuck(0x1c, 0)));
}

/// Records are taken in the order in which they were made.
#[test]
fn several_records_are_taken() {
    let mut simulated = Simulated::new();
    simulated.capability |= 7 << 40;
    let mut unit = start(&simulated).expect("it answers");
    for page in 0..9 {
        simulated.access(DEVICE, Va(page << 12), page % 2 == 1).expect_err("nothing is mapped");
    }
    let expected = (0..8).map(|page| fault(DEVICE, Va(page << 12), NO_ROOT_ENTRY, page % 2 == 1)).collect();
    assert_eq!(faults(&mut unit), (expected, true));
    assert_eq!(faults(&mut unit), (vec![], false));
}
