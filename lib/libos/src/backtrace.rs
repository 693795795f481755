//! Where a program was when it ended: the functions that were under way, by the chain of frame pointers.
//!
//! In all code of programs `rbp` points at the frame of the function that runs: there lies the `rbp` of its caller, and
//! above that the address to which it returns. `rbp` is 0 where a program begins, and where a fault interrupted it.
//!
//! What is followed here may be broken. So nothing is read that is not there, each frame must lie above the one before,
//! and after some it is enough: a backtrace never faults, and always ends.

use crate::layout::USER_LIMIT;
use crate::{Fault, Va, door, env, println, symbols, uvpt};

/// Functions that are named at most.
const MOST: usize = 16;

/// Where a panic comes through on its way from the function that has made it.
const WAY_OF_A_PANIC: [&str; 3] = ["core::panicking::", "core::option::", "core::result::"];

/// A function that is under way.
#[derive(Clone, Copy)]
struct Place {
    /// The instruction that it is at, or the one to which the function that it has called returns.
    rip: u64,
    /// Its frame.
    rbp: u64,
    /// The second is so. Then `rip` may be in the next function already.
    is_return: bool,
}

impl Place {
    /// The function, if its name is known.
    fn function(&self) -> Option<symbols::Function> {
        symbols::lookup(Va(self.rip - u64::from(self.is_return)))
    }

    /// Who has called it.
    fn caller(&self) -> Option<Place> {
        let rbp = word(self.rbp).filter(|&above| above > self.rbp || above == 0)?;
        let rip = word(self.rbp.checked_add(8)?).filter(|&rip| rip != 0)?;
        Some(Place { rip, rbp, is_return: true })
    }
}

/// The word at an address, if there is one.
fn word(address: u64) -> Option<u64> {
    let is_there = address.is_multiple_of(8) && address < USER_LIMIT.0 && uvpt::pte(Va(address)).is_present();
    is_there.then(|| door::read_u64(address))
}

/// Say where a program was that panics: where this is called from, without the way that a panic takes.
#[inline(never)]
pub(crate) fn print_panic() {
    let here = Place { rip: 0, rbp: door::frame_pointer(), is_return: true };
    let is_on_the_way = |place: &Place| {
        place
            .function()
            .is_some_and(|function| WAY_OF_A_PANIC.iter().any(|way| function.name.starts_with(way)))
    };
    // First comes the panic handler.
    let mut next = here.caller().and_then(|handler| handler.caller());
    while let Some(place) = next.filter(is_on_the_way) {
        next = place.caller();
    }
    print(next);
}

/// Say where a program was that has made this fault.
pub(crate) fn print_fault(fault: &Fault) {
    let here = Place { rip: fault.rip, rbp: fault.rbp, is_return: false };
    print_one(&here);
    let place = |rip| Place { rip, rbp: fault.rbp, is_return: true };
    let caller = match here.function() {
        // It is elsewhere than in a function: most likely somebody has called what is no function.
        None => word(fault.rsp).map(place).filter(|place| place.function().is_some()),
        // It has no frame yet: its first instruction saves `rbp`, its second one makes the frame.
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
