//! Backtraces: the active functions of a program when it ended, found by the chain of frame pointers.
//!
//! In all code of programs `rbp` points at the frame of the running function: the frame holds the caller's `rbp`, and
//! above it the return address. `rbp` is 0 where a program begins, and where a fault interrupted it.
//!
//! The chain may be broken. So a backtrace reads only memory that is mapped, each frame must lie above the one before,
//! and the number of functions is limited: a backtrace never faults, and always ends.

use crate::{Fault, Va, door, env, layout::USER_LIMIT, println, symbols, uvpt};

/// The greatest number of functions that a backtrace prints.
const MOST: usize = 16;

/// Functions between the one that panics and the panic handler; a backtrace omits them.
const WAY_OF_A_PANIC: [&str; 3] = ["core::panicking::", "core::option::", "core::result::"];

/// An active function.
#[derive(Clone, Copy)]
struct Place {
    /// The current instruction, or the return address in this function.
    rip: u64,
    /// The frame pointer.
    rbp: u64,
    /// Whether `rip` is a return address, which may already belong to the next function.
    is_return: bool,
}

impl Place {
    /// The function, if its name is known.
    fn function(&self) -> Option<symbols::Function> {
        symbols::lookup(Va(self.rip - u64::from(self.is_return)))
    }

    /// The caller.
    fn caller(&self) -> Option<Place> {
        let rbp = word(self.rbp).filter(|&above| above > self.rbp || above == 0)?;
        let rip = word(self.rbp.checked_add(8)?).filter(|&rip| rip != 0)?;
        Some(Place { rip, rbp, is_return: true })
    }
}

/// The word at an address, if it is mapped.
fn word(address: u64) -> Option<u64> {
    let is_there = address.is_multiple_of(8) && address < USER_LIMIT.0 && uvpt::pte(Va(address)).is_present();
    is_there.then(|| door::read_u64(address))
}

/// Prints the backtrace of a panic, without the functions of the panic itself.
#[inline(never)]
pub(crate) fn print_panic() {
    let here = Place { rip: 0, rbp: door::frame_pointer(), is_return: true };
    let is_on_the_way = |place: &Place| {
        place.function().is_some_and(|function| WAY_OF_A_PANIC.iter().any(|way| function.name.starts_with(way)))
    };
    // The caller of this function is the panic handler.
    let mut next = here.caller().and_then(|handler| handler.caller());
    while let Some(place) = next.filter(is_on_the_way) {
        next = place.caller();
    }
    print(next);
}

/// Prints the backtrace of this fault.
pub(crate) fn print_fault(fault: &Fault) {
    let here = Place { rip: fault.rip, rbp: fault.rbp, is_return: false };
    print_one(&here);
    let place = |rip| Place { rip, rbp: fault.rbp, is_return: true };
    let caller = match here.function() {
        // The instruction is in no function: most likely the program called a bad function pointer.
        None => word(fault.rsp).map(place).filter(|place| place.function().is_some()),
        // The function has no frame yet: its first instruction saves `rbp`, its second one makes the frame.
        Some(function) => match fault.rip - function.start.0 {
            0 => word(fault.rsp).map(place),
            1 => word(fault.rsp.wrapping_add(8)).map(place),
            _ => None,
        },
    };
    print(caller.or_else(|| here.caller()));
}

fn print(mut next: Option<Place>) {
    for _ in 0..MOST {
        let Some(place) = next else { return };
        print_one(&place);
        next = place.caller();
    }
    if next.is_some() {
        println!("[{}] and so on", env::id());
    }
}

fn print_one(place: &Place) {
    let function = place.function().map_or("code without a name", |function| function.name);
    println!("[{}] in {function}, at {:#x}", env::id(), place.rip);
}
