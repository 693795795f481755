//! Every exception that a program can raise reaches its handler, with vector, error code and address.

use crate::checks::Checks;
use crate::family::{self, child};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use libos::upcall::{self, Outcome};
use libos::{EnvId, Fault, Perms, Va, Vector, abi::Call, abi::env::FIXED_RFLAGS, layout::DIRECT_MAP, raw, sys, uvpt};

/// The address of the machine code.
const CODE: Va = Va(0x2000_0000_0000);

const ALLOC: u8 = Call::Alloc as u8;
const UNMAP: u8 = Call::Unmap as u8;
const YIELD: u8 = Call::Yield as u8;

const GP: u8 = 13;
const UD: u8 = 6;

/// Code, the vector that it raises, the error code, and the offset of the instruction that the handler sees: the
/// faulting one, or for traps the next one.
type Case = (&'static str, &'static [u8], u8, u64, u64);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("divide by zero", &[0x31, 0xd2, 0x31, 0xc9, 0xf7, 0xf1], 0, 0, 4),
    ("divide overflow", &[0xba, 9, 0, 0, 0, 0xb9, 1, 0, 0, 0, 0xf7, 0xf1], 0, 0, 10),
    ("single step", &[0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90, 0x90], 1, 0, 10),
    ("int3", &[0xcc, 0x90], 3, 0, 1),
    ("int 3", &[0xcd, 3, 0x90], 3, 0, 2),
    ("int 4", &[0xcd, 4, 0x90], 4, 0, 2),
    ("into", &[0xce], UD, 0, 0),
    ("ud2", &[0x0f, 0x0b], UD, 0, 0),
    ("rdfsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xc0], UD, 0, 0),
    ("xgetbv", &[0x31, 0xc9, 0x0f, 0x01, 0xd0], UD, 0, 2),
    ("vzeroupper", &[0xc5, 0xf8, 0x77], UD, 0, 0),
    ("wrgsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xd8], UD, 0, 0),
    ("xsave [rsp - 128]", &[0x0f, 0xae, 0x64, 0x24, 0x80], UD, 0, 0),
    ("xrstor [rsp - 128]", &[0x0f, 0xae, 0x6c, 0x24, 0x80], UD, 0, 0),
    ("vmovups xmm0, [rsp]", &[0xc5, 0xf8, 0x10, 0x04, 0x24], UD, 0, 0),
    ("vmovups ymm0, [rsp]", &[0xc5, 0xfc, 0x10, 0x04, 0x24], UD, 0, 0),
    ("rdpkru", &[0x31, 0xc9, 0x0f, 0x01, 0xee], UD, 0, 2),
    ("stac", &[0x0f, 0x01, 0xcb], UD, 0, 0),
    ("clac", &[0x0f, 0x01, 0xca], UD, 0, 0),
    ("rsm", &[0x0f, 0xaa], UD, 0, 0),
    ("cli", &[0xfa], GP, 0, 0),
    ("sti", &[0xfb], GP, 0, 0),
    ("hlt", &[0xf4], GP, 0, 0),
    ("in", &[0xe4, 0x60], GP, 0, 0),
    ("out", &[0xe6, 0xf4], GP, 0, 0),
    ("rdmsr", &[0x0f, 0x32], GP, 0, 0),
    ("wrmsr", &[0x0f, 0x30], GP, 0, 0),
    ("mov cr3", &[0x0f, 0x20, 0xd8], GP, 0, 0),
    ("mov from cr0", &[0x0f, 0x20, 0xc0], GP, 0, 0),
    ("mov cr4", &[0x0f, 0x22, 0xe0], GP, 0, 0),
    ("mov cr8", &[0x44, 0x0f, 0x22, 0xc0], GP, 0, 0),
    ("mov dr7", &[0x0f, 0x23, 0xf8], GP, 0, 0),
    ("mov from dr6", &[0x0f, 0x21, 0xf0], GP, 0, 0),
    ("rdpmc", &[0x31, 0xc9, 0x0f, 0x33], GP, 0, 2),
    ("invlpg", &[0x0f, 0x01, 0x38], GP, 0, 0),
    ("lgdt", &[0x0f, 0x01, 0x10], GP, 0, 0),
    ("lldt 0", &[0x31, 0xc0, 0x0f, 0x00, 0xd0], GP, 0, 2),
    ("ltr", &[0x0f, 0x00, 0xd8], GP, 0, 0),
    ("swapgs", &[0x0f, 0x01, 0xf8], GP, 0, 0),
    ("sysret", &[0x48, 0x0f, 0x07], GP, 0, 0),
    ("clts", &[0x0f, 0x06], GP, 0, 0),
    ("wbinvd", &[0x0f, 0x09], GP, 0, 0),
    ("mov ss, 0", &[0x31, 0xc0, 0x8e, 0xd0], GP, 0, 2),
    ("mov ds, kernel data", &[0xb8, 0x10, 0, 0, 0, 0x8e, 0xd8], GP, 0x10, 5),
    ("mov es, no such", &[0xb8, 0xf3, 0xff, 0, 0, 0x8e, 0xc0], GP, 0xfff0, 5),
    ("read not canonical", &[0x48, 0xb8, 0, 0, 0, 0, 0, 0x80, 0, 0, 0x8a, 0x08], GP, 0, 10),
    // fninit; fldcw [rsp] with division by zero unmasked; fld1; fldz; fdivp; fwait
    ("x87", &[0xdb, 0xe3, 0x68, 0x7b, 3, 0, 0, 0xd9, 0x2c, 0x24, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0x9b], 16, 0, 16),
];

/// Code that returns without an exception.
#[rustfmt::skip]
const HARMLESS: &[(&str, &[u8])] = &[
    // pushfq; or dword [rsp], AC; popfq; mov eax, [rsp + 1]; pushfq; and dword [rsp], ~AC; popfq; ret
    ("unaligned with AC", &[0x9c, 0x81, 0x0c, 0x24, 0, 0, 4, 0, 0x9d, 0x8b, 0x44, 0x24, 1, 0x9c, 0x81, 0x24, 0x24, 0xff, 0xff, 0xfb, 0xff, 0x9d, 0xc3]),
    // mov rdi, rsp; mov rsp, 1 << 63; xor eax, eax; syscall; mov rsp, rdi; ret
    ("a call with a wild stack", &[0x48, 0x89, 0xe7, 0x48, 0xbc, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x31, 0xc0, 0x0f, 0x05, 0x48, 0x89, 0xfc, 0xc3]),
    // std; alloc(0, 1 << 44, 1, W); cld; ret: a page is zeroed
    ("a call with DF", &[0xfd, 0xb8, ALLOC, 0, 0, 0, 0x31, 0xff, 0x48, 0xbe, 0, 0, 0, 0, 0, 0x10, 0, 0, 0xba, 1, 0, 0, 0, 0x41, 0xba, 2, 0, 0, 0, 0x0f, 0x05, 0xfc, 0xc3]),
    // std; unmap(0, 1 << 44, 1); cld; ret
    ("another one", &[0xfd, 0xb8, UNMAP, 0, 0, 0, 0x31, 0xff, 0x48, 0xbe, 0, 0, 0, 0, 0, 0x10, 0, 0, 0xba, 1, 0, 0, 0, 0x0f, 0x05, 0xfc, 0xc3]),
    // pushfq; or dword [rsp], NT; popfq; yield(0); pushfq; and dword [rsp], ~NT; popfq; ret
    ("a call with NT", &[0x9c, 0x81, 0x0c, 0x24, 0, 0x40, 0, 0, 0x9d, 0xb8, YIELD, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, 0x9c, 0x81, 0x24, 0x24, 0xff, 0xbf, 0xff, 0xff, 0x9d, 0xc3]),
    // pushfq; or dword [rsp], IOPL 3 and IF off; popfq (ignored); ret
    ("popfq of IOPL", &[0x9c, 0x81, 0x0c, 0x24, 0, 0x30, 0, 0, 0x81, 0x24, 0x24, 0xff, 0xfd, 0xff, 0xff, 0x9d, 0xc3]),
];

/// Interrupts that programs may not raise.
const NOT_FOR_USERS: [u8; 12] = [0, 1, 2, 6, 8, 13, 14, 18, 32, 33, 128, 255];

/// Instructions that some processors lack in 64-bit mode, and that the others forbid to users.
const MISSING_OR_FORBIDDEN: [(&str, &[u8]); 3] =
    [("sysenter", &[0x0f, 0x34]), ("sysexit", &[0x0f, 0x35]), ("xsetbv", &[0x31, 0xc9, 0x0f, 0x01, 0xd1])];

/// Non-canonical addresses: to jump to, to push to, to pop from. Processors and emulators disagree about the vector and
/// about which of the two addresses is reported.
const NOT_CANONICAL: [(&str, &[u8]); 3] = [
    ("jump", &[0x48, 0xb8, 0, 0, 0, 0, 0, 0x80, 0, 0, 0xff, 0xe0]),
    ("push", &[0x48, 0xbc, 0, 0, 0, 0, 0, 0x90, 0, 0, 0x50]),
    ("pop", &[0x48, 0xbc, 0, 0, 0, 0, 0, 0x90, 0, 0, 0x58]),
];

/// Runs machine code; returns the exception that ended it, if any.
fn run(code: &[u8]) -> Option<Fault> {
    let me = EnvId::SELF;
    sys::alloc(me, CODE, 1, Perms::WRITE).expect("a page");
    code.iter().enumerate().for_each(|(at, byte)| raw::write_u8(CODE.0 + at as u64, *byte));
    sys::protect(me, CODE, 1, Perms::EXEC).expect("code");
    let fault = raw::attempt(raw::call, CODE.0);
    sys::unmap(me, CODE, 1).expect("the page");
    fault
}

pub fn vectors(checks: &mut Checks) {
    for &(what, code, vector, error, at) in CASES {
        let found = run(code).map(|fault| (fault.vector(), fault.error, fault.rip.wrapping_sub(CODE.0)));
        checks.equal(what, found, Some((Vector(vector), error, at)));
    }
    // An environment to which to yield: the kernel takes another path then.
    let other = child(|| {
        loop {
            sys::yield_now();
        }
    });
    for &(what, code) in HARMLESS {
        checks.equal(what, run(code).map(|fault| fault.vector()), None);
    }
    family::end(other.id());
    for number in NOT_FOR_USERS {
        let found = run(&[0xcd, number]).map(|fault| (fault.vector(), fault.error));
        // The index of the entry, times 8 by the manual, times its size in older emulators.
        let error = |scale: u64| Some((Vector(GP), u64::from(number) * scale + 2));
        checks.that("int", found == error(8) || found == error(16));
    }
    for (what, code) in MISSING_OR_FORBIDDEN {
        let found = run(code).map(|fault| (fault.vector(), fault.error));
        checks.that(what, found == Some((Vector(GP), 0)) || found == Some((Vector(UD), 0)));
    }
    for (what, code) in NOT_CANONICAL {
        let found = run(code).map(|fault| (fault.vector(), fault.error));
        let stack = Some((Vector::STACK_FAULT, 0));
        checks.that(what, found == Some((Vector(GP), 0)) || (found == stack && what != "jump"));
    }
    simd(checks);
    page_faults(checks);
    attempts(checks);
}

/// An attempt leaves the program's handler unchanged, however it ends, and attempts nest.
fn attempts(checks: &mut Checks) {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let asked = || {
        let before = ASKED.load(Relaxed);
        raw::undefined();
        ASKED.load(Relaxed) - before
    };
    upcall::set_handler(|fault| {
        ASKED.fetch_add(1, Relaxed);
        fault.rip += 2; // skip `ud2`
        Outcome::Resume
    });
    checks.equal("caught", raw::attempt(|_| raw::undefined(), 0).map(|met| met.vector().0), Some(6));
    checks.equal("asked again after an attempt that failed", asked(), 1);
    checks.that("nothing to catch", raw::attempt(|_| (), 0).is_none());
    checks.equal("asked again after an attempt that succeeded", asked(), 1);
    let inner: fn(u64) = |outcome| {
        let caught = raw::attempt(|_| raw::divide_by_zero(), 0);
        assert!(caught.is_some_and(|fault| fault.vector() == Vector::DIVIDE_ERROR));
        if outcome == 6 {
            raw::undefined();
        }
    };
    for outcome in [0, 6] {
        let caught = raw::attempt(inner, outcome).map_or(0, |fault| fault.vector_number);
        checks.equal("an attempt around another one", caught, outcome);
        checks.equal("asked again after nested attempts", asked(), 1);
    }
    upcall::clear_handler();
    checks.that("ends by itself", raw::attempt(|_| raw::undefined(), 0).is_some());
}

/// With the exception unmasked, division by zero raises it; emulators may not implement that.
fn simd(checks: &mut Checks) {
    // push 0x1d80; ldmxcsr [rsp]; pop rax; xorps xmm0, xmm0; mov eax, 0x3f800000; movd xmm1, eax;
    // divss xmm1, xmm0; push 0x1f80; ldmxcsr [rsp]; pop rax; ret
    let fault = run(&[
        0x68, 0x80, 0x1d, 0, 0, 0x0f, 0xae, 0x14, 0x24, 0x58, 0x0f, 0x57, 0xc0, 0xb8, 0, 0, 0x80, 0x3f, 0x66, 0x0f,
        0x6e, 0xc8, 0xf3, 0x0f, 0x5e, 0xc8, 0x68, 0x80, 0x1f, 0, 0, 0x0f, 0xae, 0x14, 0x24, 0x58, 0xc3,
    ]);
    let vector = fault.map_or(Vector::SIMD, |fault| fault.vector());
    checks.equal("SIMD", vector, Vector::SIMD);
}

/// An access, its address, the address of the fault, and the error code.
type Access = (&'static str, fn(u64), u64, u64, u64);

fn page_faults(checks: &mut Checks) {
    const NOWHERE: u64 = 0x3000_0000_0000;
    const HERE: u64 = 0x2100_0000_0000;
    const USER: u64 = 4;
    const WRITE: u64 = 2;
    const PRESENT: u64 = 1;
    const FETCH: u64 = 16;
    let read: fn(u64) = |address| _ = core::hint::black_box(raw::read_u64(address));
    let write: fn(u64) = |address| raw::write_u64(address, 1);
    sys::alloc(EnvId::SELF, Va(HERE), 1, Perms::READ).expect("a page");
    // The kernel maps all memory, this page included.
    let kernels = DIRECT_MAP.0 + uvpt::pte(Va(HERE)).frame().address();
    let cases: [Access; 9] = [
        ("read", read, NOWHERE, NOWHERE, USER),
        ("write", write, NOWHERE, NOWHERE, USER | WRITE),
        ("fetch", raw::call, NOWHERE, NOWHERE, USER | FETCH),
        ("write, read-only", write, HERE + 8, HERE + 8, USER | WRITE | PRESENT),
        ("fetch, no code", raw::call, HERE, HERE, USER | FETCH | PRESENT),
        ("read over the edge", read, HERE + 0xffc, HERE + 0x1000, USER),
        ("read the kernel", read, kernels, kernels, USER | PRESENT),
        ("write the kernel", write, kernels, kernels, USER | WRITE | PRESENT),
        ("null", read, 0, 0, USER),
    ];
    for (what, access, address, place, error) in cases {
        let found = raw::attempt(access, address);
        let found = found.map(|fault| (fault.vector(), fault.error, fault.address, fault.rflags & FIXED_RFLAGS));
        checks.equal(what, found, Some((Vector::PAGE_FAULT, error, place, FIXED_RFLAGS)));
    }
    sys::unmap(EnvId::SELF, Va(HERE), 1).expect("the page");
}
