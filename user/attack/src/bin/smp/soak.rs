//! Everything at once: workers choose random acts, and are themselves ended, stopped and replaced meanwhile.
//!
//! `smp soak seed=N seconds=N`. The choices follow from the seed; their timing does not.

use crate::acts::ACTS;
use crate::kit::{Clock, Draw, Ends, Must, add, argument, board, child, cpus, fail, get, pause, set};
use crate::troupe::{CAST, DONE, FAMILIES, FAMILY_WORDS, Family, MAILBOXES, MOST, MOST_FAMILIES, OVER, check_page};
use core::sync::atomic::Ordering::SeqCst;
use libos::{Child, ExitStatus, Status, Va, abi::Error, env, ipc, print, println, sys, windows};

const LETTERS: Va = Va(0x2000_0000_0000);

/// All members.
struct Cast {
    members: [Option<(Child, Family)>; MOST],
    seed: u64,
    /// The number of families so far.
    families: usize,
}

pub fn soak() {
    let (seed, seconds) = (argument("seed").unwrap_or(1), argument("seconds").unwrap_or(2));
    let mut cast = Cast { members: [const { None }; MOST], seed, families: 0 };
    let count = MAILBOXES + (2 * cpus()).clamp(3, MOST - MAILBOXES);
    (0..count).for_each(|member| cast.engage(member));
    let (clock, draw) = (Clock::start(), Draw::new(seed));
    let (mut replaced, mut stopped) = (0, 0);
    while !clock.passed(1000 * seconds) {
        wait(draw.below(200));
        let member = draw.below(count as u64) as usize;
        if draw.below(3) == 0 {
            stopped += u32::from(cast.stop(member, draw.below(3000)));
        } else {
            cast.end(member, false);
            cast.engage(member);
            replaced += 1;
        }
    }
    set(OVER, 1);
    (MAILBOXES..count).for_each(|member| cast.end(member, true));
    (0..MAILBOXES).for_each(|member| cast.end(member, false));
    print!("soak: seed {seed}, {replaced} replaced, {stopped} stopped");
    ACTS.iter().enumerate().for_each(|(act, (name, _))| print!(", {name} {}", get(DONE + act)));
    println!();
    let strangers = || windows::envs().iter().filter(|env| env.status() != Status::Free && env.id() != env::id());
    if !is_so_within(20_000, || strangers().next().is_none()) {
        for env in strangers() {
            println!("{} is still {:?}, parent {}", env.id(), env.status(), env.parent());
        }
        fail!("not all have gone");
    }
}

/// Lets others run until this holds, for at most this many milliseconds. Returns whether it holds.
fn is_so_within(ms: u64, holds: impl Fn() -> bool) -> bool {
    let clock = Clock::start();
    while !holds() && !clock.passed(ms) {
        sys::yield_now();
    }
    holds()
}

/// Lets others run for this many milliseconds.
fn wait(ms: u64) {
    is_so_within(ms, || false);
}

impl Cast {
    fn engage(&mut self, member: usize) {
        let words = FAMILIES + self.families % MOST_FAMILIES * FAMILY_WORDS;
        board()[words..][..FAMILY_WORDS].iter().for_each(|word| word.store(0, SeqCst));
        let family = Family { draw: Draw::new(self.seed << 20 | self.families as u64), words };
        self.families += 1;
        let child = child(|| if member < MAILBOXES { receive() } else { work(&family) });
        set(CAST + member, child.id().0.into());
        self.members[member] = Some((child, family));
    }

    /// Ends a member; or waits until it ends by itself.
    fn end(&mut self, member: usize, by_itself: bool) {
        let Some((child, _)) = self.members[member].take() else { return };
        if by_itself {
            return child.ends();
        }
        // If it has already ended, it has failed, and its status shows that.
        let _ = child.kill();
        let status = child.status();
        if status != ExitStatus::DESTROYED {
            fail!("member {member}, {}: {status}", child.id());
        }
    }

    /// Stops a member for a while. Returns whether that was possible.
    fn stop(&self, member: usize, steps: u64) -> bool {
        let Some((child, _)) = &self.members[member] else { return false };
        match sys::set_status(child.id(), Status::Stopped) {
            Ok(()) => {
                pause(steps);
                sys::set_status(child.id(), Status::Runnable).must("go on");
                true
            }
            // The member waits.
            Err(Error::BadState(_)) => false,
            Err(error) => fail!("stop member {member}, {}: {error:?}", child.id()),
        }
    }
}

/// Performs one act after the other.
fn work(family: &Family) {
    while get(OVER) == 0 {
        let act = family.draw.below(ACTS.len() as u64) as usize;
        family.begin();
        ACTS[act].1(family);
        add(DONE + act);
    }
}

/// Receives letters with pages, whose words must all be the same.
fn receive() {
    loop {
        let letter = ipc::recv_page(LETTERS).must("recv");
        check_page(letter.page.then_some(LETTERS), letter.value);
    }
}
