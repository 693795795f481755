//! Features of the processor besides memory: descriptors that a program makes up, ways into other modes, and registers
//! that are not saved. These checks must hold on every model (`MODELS` in `tests/guest/hostile.rs`).

use crate::checks::Checks;
use crate::family::{self, child};
use libos::raw::{self, ENTER_SEGMENT, LOAD_SEGMENT, Segment, Way};
use libos::{EnvId, Fault, Perms, Va, Vector, env, ipc, println, sys};

const USER_DATA: u16 = 0x18 | 3;
const USER_CODE: u16 = 0x20 | 3;
/// The number of selectors of a table.
const SELECTORS: u16 = 1 << 13;
/// The bit that selects the local table.
const LOCAL: u16 = 4;
/// The error code holds the selector without the lowest two bits.
const INDEX: u16 = !3;

/// Made-up descriptors: if they were read, loads and far jumps through them would lead to another mode or privilege.
#[rustfmt::skip]
const MADE_UP: [(&str, u64); 6] = [
    ("data for users", 0x00cf_f300_0000_ffff),
    ("32-bit code for users", 0x00cf_fb00_0000_ffff),
    ("16-bit code for users", 0x008f_fb00_0000_ffff),
    ("64-bit code for users", 0x00af_fb00_0000_ffff),
    ("64-bit code for the kernel", 0x00af_9b00_0000_ffff),
    ("conforming code for the kernel", 0x00af_9f00_0000_ffff),
];
/// The index of the gate, which takes two entries.
const GATE: u16 = MADE_UP.len() as u16 + MADE_UP.len() as u16 % 2;

/// Checks segments, with descriptors at address 0: the processor has its tables there after a reset, and programs may
/// map that page.
pub fn segments(checks: &mut Checks) {
    checks.equal("page 0", sys::alloc(EnvId::SELF, Va(0), 16, Perms::WRITE), Ok(()));
    for (slot, (_, descriptor)) in MADE_UP.into_iter().enumerate() {
        raw::write_u64(8 * slot as u64, descriptor);
    }
    write_gate(8 * u64::from(GATE), USER_CODE & !3, raw::undefined as *const () as u64);
    local(checks);
    global(checks);
    checks.equal("page 0", sys::unmap(EnvId::SELF, Va(0), 16), Ok(()));
}

/// Writes a call gate at `at`, through which users would reach `place`.
fn write_gate(at: u64, code: u16, place: u64) {
    const PRESENT_FOR_USERS: u64 = 0xec00;
    let low = place & 0xffff | u64::from(code) << 16 | PRESENT_FOR_USERS << 32 | (place >> 16 & 0xffff) << 48;
    raw::write_u64(at, low);
    raw::write_u64(at + 8, place >> 32);
}

/// The content of address 0 is not a local descriptor table: none exists.
fn local(checks: &mut Checks) {
    let names = MADE_UP.map(|(name, _)| name).into_iter().chain(["call gate", "nothing", "an index without a table"]);
    for (name, slot) in names.zip((0..MADE_UP.len() as u16).chain([GATE, GATE + 2, SELECTORS - 1])) {
        for privilege in [0, 3] {
            let selector = slot << 3 | LOCAL | privilege;
            refuse_all(checks, name, selector);
            checks.equal(name, Segment::of(selector), Segment::NONE);
        }
    }
    let mut stored = 0xffffu64;
    let fault = raw::attempt(raw::store_local_table, &raw mut stored as u64);
    let is_told = fault.is_none() && core::hint::black_box(stored) == 0;
    checks.that("sldt", is_told || fault.is_some_and(|fault| seen(&fault) == protection(0)));
}

/// The global table has one data segment and one code segment for users, and that is 64-bit code.
fn global(checks: &mut Checks) {
    const TYPE: u32 = 0x60_fe00; // L and D, P, DPL, S, type without A
    const CODE: u32 = 0x20_fa00;
    const DATA: u32 = 0x00_f200;
    for selector in (0..SELECTORS).map(|slot| slot << 3 | 3) {
        let found = Segment::of(selector);
        let expected = match selector {
            USER_CODE => (CODE, true, false),
            USER_DATA => (DATA, true, true),
            _ => (0, false, false),
        };
        // The D bit of a data segment does not matter.
        let kind = if selector == USER_DATA { found.rights & 0xfe00 } else { found.rights & TYPE };
        if (kind, found.readable, found.writable) != expected {
            checks.equal("a segment", (selector, found), (selector, Segment::NONE));
        }
    }
    // The kernel's segments, the task state segment, and selectors behind the end.
    for selector in [0x08, 0x10, 0x28, 0x30, 0x38, 0x40, 0xfff8].into_iter().flat_map(|bare| [bare, bare | 3]) {
        refuse_all(checks, "global", selector);
    }
    // A segment that can be entered is entered: so these instructions do work.
    let (how, enter) = ENTER_SEGMENT[0];
    let found = raw::attempt(enter, USER_CODE.into());
    checks.equal(how, found.map(|fault| fault.vector()), Some(Vector::INVALID_OPCODE));
}

fn seen(fault: &Fault) -> (Vector, u64) {
    (fault.vector(), fault.error)
}

fn protection(selector: u16) -> (Vector, u64) {
    (Vector(13), (selector & INDEX).into())
}

/// Checks that no register accepts the selector, and no instruction jumps through it.
fn refuse_all(checks: &mut Checks, what: &str, selector: u16) {
    let ways = LOAD_SEGMENT.into_iter().chain(ENTER_SEGMENT);
    let stack: Way = ("iret's ss", raw::interrupt_return_on);
    for (how, attempt) in ways.chain([stack]) {
        let found = raw::attempt(attempt, selector.into());
        // Emulators before QEMU 9.1 let `retf` and `iretq` read the stack as the kernel would, which SMAP forbids.
        let on_stack = |fault: &Fault| fault.vector() == Vector::PAGE_FAULT && fault.address == fault.rsp;
        let refused = found.is_some_and(|fault| on_stack(&fault) || seen(&fault) == protection(selector));
        if !refused {
            println!("{how} with {selector:#x}, {what}: {:?}", found.as_ref().map(seen));
        }
        checks.that(how, refused);
    }
}

/// Registers that are not saved have the same value in all environments.
pub fn registers(checks: &mut Checks) {
    static HERE: u64 = 0x0123_4567_89ab_cdef;
    let address = &raw const HERE as u64;
    for selector in [0, 3, USER_DATA] {
        // `fs` and `gs`
        LOAD_SEGMENT[2..4].iter().for_each(|(_, load)| load(selector.into()));
        checks.equal("the bases of fs and gs", raw::read_by_segments(address), [HERE; 2]);
    }
    let mut stored = 0u64;
    let fault = raw::attempt(raw::store_processor, &raw mut stored as u64);
    let is_none = fault.map(|fault| fault.vector()) == Some(Vector::INVALID_OPCODE);
    checks.that("rdtscp", is_none || core::hint::black_box(stored) == 0);
    pointers(checks);
}

/// The address of one environment's last x87 instruction is invisible to others.
fn pointers(checks: &mut Checks) {
    static NUMBERS: [u32; 2] = [1, 2];
    let place = |n: usize| &raw const NUMBERS[n] as u64;
    let told = |pointers: [u32; 3]| u64::from(pointers[0]) << 32 | u64::from(pointers[1]);
    let me = env::id();
    raw::x87_reset();
    let other = child(|| {
        let mut answer = ipc::recv();
        while answer.is_ok() {
            let found = raw::x87_pointers();
            raw::x87_load(place(1));
            answer = ipc::call(me, told(found));
        }
        sys::exit(0)
    });
    for _ in 0..3 {
        raw::x87_load(place(0));
        let answer = ipc::call(other.id(), 0).map_or(0, |message| message.value);
        let mine = raw::x87_pointers();
        checks.that("the other's operand", answer as u32 != place(0) as u32);
        checks.that("my operand", mine[1] != place(1) as u32);
    }
    family::end(other.id());
}
