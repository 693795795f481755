//! Children are stopped while they run on other processors.

use crate::bare::{Code, Text};
use crate::kit::{Crew, Must, cpus, fail, get, is_running, pause, rounds, until};
use libos::{EnvId, Status, abi::Call, println, sys, windows};

/// A child that counts in a loop, in word `word` of the board, with a call in each step, or none.
fn counts(word: usize, call: Option<Call>) -> (Code, usize) {
    let mut code = Code::new();
    code.count(word);
    if let Some(call) = call {
        code.call(call, [0, 0]);
    }
    code.jump(0);
    let other = code.here();
    code.count(word + 1).jump(other);
    (code, other)
}

fn stop(id: EnvId) {
    sys::set_status(id, Status::Stopped).must("stop");
    let status = windows::env(id).map(|env| env.status());
    if status != Some(Status::Stopped) {
        fail!("{id} was stopped, and is {status:?}");
    }
}

/// Checks that these words do not change for a while.
fn stands_still_for(steps: u64, words: core::ops::Range<usize>) {
    let sum = || words.clone().map(get).sum::<u64>();
    let before = sum();
    pause(steps);
    if sum() != before {
        fail!("it was stopped, and counted from {before} to {}", sum());
    }
}

/// A stopped child does nothing any more: one that computes, one that yields all the time, one that makes calls.
pub fn stands_still() {
    let mut elsewhere = 0;
    let mut done = 0;
    for call in [None, Some(Call::Yield), Some(Call::Id)] {
        let (code, _) = counts(0, call);
        let text = code.publish();
        let child = text.child();
        // Other environments compete for processors: the child is often in the run queue.
        let others = Crew::new(cpus(), |_| crate::kit::busy(sys::yield_now));
        for round in rounds(300) {
            text.start(child);
            let before = get(0);
            until("it counts", || get(0) != before);
            elsewhere += u32::from(is_running(child));
            stop(child);
            stands_still_for(100 + round % 8 * 100, 0..2);
            done += 1;
        }
        others.put_down();
        end(child);
    }
    println!("stop: {done} rounds, {elsewhere} times one that ran");
}

fn end(id: EnvId) {
    sys::destroy(id).must("destroy");
    let mut ended = None;
    until("the end of a child", || {
        ended = sys::try_wait(id).must("wait");
        ended.is_some()
    });
}

/// A stopped child can be continued elsewhere.
pub fn jumps() {
    let (code, other) = counts(0, Some(Call::Yield));
    let text = code.publish();
    let child = text.child();
    let others = Crew::new(cpus() / 2, |_| crate::kit::busy(sys::yield_now));
    let mut done = 0;
    for round in rounds(400) {
        let side = (round % 2) as usize;
        jump(&text, child, [0, other][side], side);
        done = round + 1;
    }
    others.put_down();
    end(child);
    println!("jump: {done} rounds, {} and {} steps", get(0), get(1));
}

fn jump(text: &Text, child: EnvId, place: usize, side: usize) {
    text.go_to(child, place);
    let (mine, its) = (get(side), get(1 - side));
    text.start(child);
    until("it counts", || get(side) > mine + 2);
    stop(child);
    if get(1 - side) != its {
        fail!("it was to count at {side}, and counted at the other place");
    }
}
