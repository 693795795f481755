//! The console calls: `write` and `read`.

use crate::env::table::{Env, Results};
use crate::env::{bracket::Entry, run_loop, scheduler, user_memory::UserSlice};
use crate::machine::print;
use abi::{Error, Status, call::CONSOLE_MAX};
use core::mem::MaybeUninit;
use sched::Node;

const MAX: usize = CONSOLE_MAX as usize;

/// `write(buffer, bytes)`: prints text.
#[inline(never)]
pub fn write(me: &'static Env, user: UserSlice) -> Results {
    let mut text = [const { MaybeUninit::uninit() }; MAX];
    let text = user.read(me, &mut text[..user.len.min(CONSOLE_MAX) as usize])?;
    if !text.is_empty() {
        print::print_for(me.id(), text);
    }
    Ok((text.len() as u64, 0))
}

/// `read(buffer, bytes)`: takes input, or waits for some.
#[inline(never)]
pub fn read(entry: Entry, me: &'static Env, user: UserSlice) -> Results {
    if user.len == 0 {
        return Err(Error::BadCount(0));
    }
    let most = user.len.min(CONSOLE_MAX);
    let mut text = [0; MAX];
    // Input is taken only when it can be delivered: otherwise it would be lost.
    let len = user.fill(me, most, || print::receive(&mut text[..most as usize]))?;
    if len == 0 {
        let mut locked = scheduler::lock();
        if locked.block(me, Status::Reading) {
            me.frame.rewind();
        }
        run_loop::switch(entry, locked);
    }
    Ok((len, 0))
}
