//! All processors work, and an environment does not notice which one it is on.

use crate::kit::{Crew, Ends, add, board, child, cpus, fail, get, is_running, pause, rounds, set, until};
use core::hint::black_box;
use core::sync::atomic::Ordering::SeqCst;
use libos::{EnvId, Status, env, println, sys, windows};

/// Every processor runs some child, and there are as many processors as the machine reports.
pub fn all_work() {
    let count = cpus();
    let seen = || (0..count).filter(|cpu| get(*cpu) != 0).count();
    let crew = Crew::new(count + 1, |_| {
        child(|| {
            // This loop does not yield: the children spread because all processors are busy.
            until("every processor was seen", || {
                (0..500).for_each(|_| set(env::cpu() as usize, 1));
                seen() == count
            });
        })
    });
    crew.ends();
    let strangers = board()[count..].iter().filter(|word| word.load(SeqCst) != 0).count();
    if strangers != 0 {
        fail!("{strangers} processors that there are not");
    }
    println!("processors: {} of {count} ran children", seen());
}

/// Words of the board: whose turn it is in a pair, and how many turns there were.
const TURN: usize = 0;
const DONE: usize = 100;

/// Pairs, as many as there are processors, play ping-pong with directed yields.
pub fn yields() {
    const TURNS: u64 = 200;
    let parent_waits = 200;
    let crew = Crew::new(2 * cpus().min(8), |index| {
        child(move || {
            let (pair, side) = (index / 2, index as u64 % 2);
            until("the others", || get(parent_waits) != 0);
            let partner = EnvId(get(300 + (index ^ 1)) as u32);
            for _ in 0..TURNS {
                until_named(partner, || get(TURN + pair) == side);
                add(DONE + pair);
                set(TURN + pair, 1 - side);
            }
        })
    });
    crew.ids().enumerate().for_each(|(index, id)| set(300 + index, id.0.into()));
    set(parent_waits, 1);
    crew.ends();
    let turns: u64 = board()[DONE..DONE + 8].iter().map(|word| word.load(SeqCst)).sum();
    let expected = 2 * TURNS * cpus().min(8) as u64;
    if turns != expected {
        fail!("{turns} turns, {expected} expected");
    }
    to_the_unwilling();
    println!("yield: {turns} turns in {} pairs", cpus().min(8));
}

fn until_named(partner: EnvId, mut holds: impl FnMut() -> bool) {
    until("a turn", || {
        // The last turn of the partner may have been its last of all.
        let _ = sys::yield_to(partner);
        holds()
    });
}

/// Yields to an environment that does not run, or that is just ending, harm nobody.
fn to_the_unwilling() {
    let stopped = sys::exofork();
    let Ok(stopped) = stopped else { fail!("no child: {stopped:?}") };
    for round in rounds(50) {
        if sys::yield_to(stopped).is_err() || is_running(stopped) {
            fail!("yield to one that is stopped");
        }
        let other = child(|| pause(round * 100));
        while sys::yield_to(other.id()).is_ok() {}
        let state = windows::env(other.id()).map(|env| env.status());
        if !matches!(state, Some(Status::Dying | Status::Zombie)) {
            fail!("it cannot be yielded to, and is {state:?}");
        }
        other.ends();
    }
    let _ = sys::destroy(stopped).and_then(|()| sys::wait(stopped));
}

/// More children than processors compute with floating-point numbers, all from different starting values, and are
/// interrupted and moved: each must get the same result every time.
pub fn registers() {
    const REPEATS: u64 = 60;
    let crew = Crew::new(2 * cpus() + 1, |index| {
        child(move || {
            let start = 0.1 + 0.013 * index as f64;
            let (first, mut places, mut last) = (chaos(start), 0u64, u32::MAX);
            for _ in rounds(REPEATS) {
                let again = chaos(start);
                if again.map(f64::to_bits) != first.map(f64::to_bits) {
                    fail!("{again:?} was {first:?}");
                }
                let here = env::cpu();
                places += u64::from(here != last);
                last = here;
                add(0);
            }
            board()[1].fetch_add(places, SeqCst);
        })
    });
    crew.ends();
    println!("registers: {} results alike, {} moves", get(0), get(1));
}

/// Four chaotic sequences of numbers in vector registers, with calls between the steps.
fn chaos(start: f64) -> [f64; 4] {
    let mut x = [start, start * 1.1, start * 1.2, start * 1.3];
    for step in 0..3000 {
        x = x.map(|x| 3.97 * x.clamp(0.01, 0.99) * (1.0 - x.clamp(0.01, 0.99)));
        if step % 50 == 0 {
            sys::yield_now();
        }
    }
    black_box(x)
}
