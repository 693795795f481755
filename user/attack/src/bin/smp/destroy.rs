//! Children are destroyed while they work on other processors.

use crate::bare::Code;
use crate::kit::{Crew, Draw, Must, add, board, busy, child, cpus, fail, get, pause, rounds, until};
use core::sync::atomic::Ordering::SeqCst;
use libos::abi::{Call, Error};
use libos::upcall::{self, Outcome};
use libos::{Child, ExitStatus, Va, env, ipc, println, raw, sys};

/// A way to make a child that reports its work on the board, in the word with its number.
type Kind = (&'static str, fn(usize) -> Child);

/// The kinds of work, by name.
const KINDS: [Kind; 6] = [
    ("spin", |index| busy(move || _ = add(index))),
    ("fault", faulting),
    ("call", |index| {
        busy(move || {
            add(index);
            _ = sys::protect(sys::id(), Va(0x1000), 1, libos::Perms::READ);
        })
    }),
    ("fork", forking),
    ("receive", |index| {
        busy(move || {
            add(index);
            _ = ipc::recv();
        })
    }),
    ("allocate", |index| {
        busy(move || {
            add(index);
            _ = sys::alloc(libos::EnvId::SELF, Va(0x2000_0000_0000), 20, libos::Perms::WRITE);
            _ = sys::unmap(libos::EnvId::SELF, Va(0x2000_0000_0000), 20);
        })
    }),
];

/// Reads an unmapped address forever; its handler maps nothing.
fn faulting(index: usize) -> Child {
    child(move || {
        upcall::set_handler(|_| Outcome::Resume);
        add(index);
        let _ = raw::read_u64(0x3000_0000_0000);
    })
}

/// Makes children, which do not live long, and waits for half of them.
fn forking(index: usize) -> Child {
    let mut count = 0;
    busy(move || {
        add(index);
        count += 1;
        let other = child(|| pause(300));
        if count % 2 == 0 {
            let _ = other.wait();
        } else {
            let _ = sys::try_wait(libos::EnvId::ANY);
        }
    })
}

/// As many children of each kind as there are processors, and one more, are made and ended again and again.
pub fn at_work() {
    let count = (cpus() + 1).min(12);
    for (name, make) in KINDS {
        let mut done = 0;
        for round in rounds(8) {
            board().iter().for_each(|word| word.store(0, SeqCst));
            let crew = Crew::new(count, make);
            until("all are at work", || (0..count).all(|index| get(index) != 0));
            pause(round * 500);
            crew.put_down();
            done = round + 1;
        }
        println!("destroy: {done} times {count} that {name}");
    }
}

/// Children are destroyed at about the time when they end by themselves.
pub fn race() {
    const STATUS: u64 = 7;
    let mut code = Code::new();
    code.count(0).call(Call::Exit, [STATUS, 0]);
    let text = code.publish();
    let draw = Draw::new(17);
    let (mut own, mut destroyed, mut late) = (0, 0, 0);
    for _ in rounds(1500) {
        let id = text.child();
        text.start(id);
        pause(draw.below(60) * draw.below(60));
        match sys::destroy(id) {
            Ok(()) => {}
            Err(Error::BadEnv(_)) => late += 1,
            Err(error) => fail!("destroy: {error:?}"),
        }
        let mut ended = None;
        until("the end of a child", || {
            ended = sys::try_wait(id).must("wait");
            ended.is_some()
        });
        match ended.map(|(_, status)| status) {
            Some(ExitStatus::DESTROYED) => destroyed += 1,
            Some(status) if u64::from(status.0) == STATUS => own += 1,
            other => fail!("{id}: {other:?}"),
        }
    }
    if let Err(Error::NoChild(_)) = sys::try_wait(libos::EnvId::ANY) {
        println!("race: {own} ended by themselves, {destroyed} were destroyed, {late} not any more");
    } else {
        fail!("{} has a child left", env::id());
    }
}
