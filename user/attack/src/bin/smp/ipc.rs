//! Messages between processors: each arrives, exactly once, and whole.

use crate::kit::{Crew, Must, board, child, cpus, fail, get, set, until};
use core::sync::atomic::Ordering::SeqCst;
use libos::{EnvId, PAGE_SIZE, Perms, Va, env, ipc, println, raw, sys};

const PAGE: Va = Va(0x2000_0000_0000);

/// All children send to the parent, every third message with a page.
pub fn many_to_one() {
    const EACH: u64 = 60;
    let (count, me) = ((2 * cpus()).min(16), env::id());
    let crew = Crew::new(count, |index| {
        child(move || {
            sys::alloc(EnvId::SELF, PAGE, 1, Perms::WRITE).must("alloc");
            for number in 0..EACH {
                send(me, index as u64, number);
            }
            sys::unmap(EnvId::SELF, PAGE, 1).must("unmap");
        })
    });
    let mut next = [0; Crew::MOST];
    let mut pages = 0;
    for _ in 0..count as u64 * EACH {
        let message = ipc::recv_page(PAGE).must("recv");
        let (index, number) = ((message.value >> 32) as usize, message.value & 0xffff_ffff);
        let sender = crew.ids().nth(index);
        let whole = !message.page || (0..8).all(|word| raw::read_u64(PAGE.0 + 512 * word) == message.value);
        if sender != Some(message.from) || number != next[index] || !whole {
            fail!("{message:?}; number {} expected; page whole: {whole}", next[index]);
        }
        next[index] += 1;
        pages += u64::from(message.page);
    }
    crew.ends();
    sys::unmap(EnvId::SELF, PAGE, 1).must("unmap");
    if pages != count as u64 * EACH / 3 {
        fail!("{pages} pages");
    }
    println!("ipc: {} messages from {count} senders, {pages} pages", next.iter().sum::<u64>());
}

/// Sends a message with its sender and number, also in its page.
fn send(to: EnvId, index: u64, number: u64) {
    let value = index << 32 | number;
    if number % 3 != 2 {
        return ipc::send(to, value).must("send");
    }
    // The receiver may still be reading the last page: this is another one.
    sys::alloc(EnvId::SELF, PAGE, 1, Perms::WRITE).must("alloc");
    (0..PAGE_SIZE / 512).for_each(|word| raw::write_u64(PAGE.0 + 512 * word, value));
    ipc::send_page(to, value, PAGE, Perms::WRITE).must("send_page");
}

/// Words of the board: the members of the ring.
const MEMBERS: usize = 100;

/// A number goes around in a ring, and each member adds 1; a second number follows it.
pub fn ring() {
    const ROUNDS: u64 = 30;
    const TOKENS: u64 = 2;
    let count = (cpus() + 2).min(20);
    let crew = Crew::new(count, |index| {
        child(move || {
            until("the others", || get(0) != 0);
            let next = EnvId(get(MEMBERS + (index + 1) % count) as u32);
            let last = index + 1 == count;
            for round in 0..ROUNDS * TOKENS {
                let value = ipc::recv().must("recv").value;
                board()[1].fetch_add(1, SeqCst);
                // The last member passes it to the first, except in the last round.
                let is_end = last && round >= (ROUNDS - 1) * TOKENS;
                if is_end {
                    board()[2].fetch_add(value + 1, SeqCst);
                } else {
                    ipc::send(next, value + 1).must("send");
                }
            }
        })
    });
    crew.ids().enumerate().for_each(|(index, id)| set(MEMBERS + index, id.0.into()));
    set(0, 1);
    let first = EnvId(get(MEMBERS) as u32);
    (0..TOKENS).for_each(|_| ipc::send(first, 0).must("send"));
    crew.ends();
    let steps = ROUNDS * count as u64;
    if get(1) != TOKENS * steps || get(2) != TOKENS * steps {
        fail!("{} messages, sum {}; {} expected", get(1), get(2), TOKENS * steps);
    }
    println!("ring: {} messages among {count}", get(1));
}

/// Pairs, as many as there are processors: one asks, the other answers.
pub fn pairs() {
    const QUESTIONS: u64 = 150;
    let count = cpus().min(16);
    let crew = Crew::new(count, |_| {
        child(|| {
            let server = child(|| serve(QUESTIONS));
            for question in 0..QUESTIONS {
                let answer = ipc::call(server.id(), question).must("call");
                if answer.value != question * 3 + 1 || answer.from != server.id() {
                    fail!("{question} is answered {answer:?}");
                }
            }
            crate::kit::Ends::ends(server);
            board()[0].fetch_add(QUESTIONS, SeqCst);
        })
    });
    crew.ends();
    println!("pairs: {} questions of {count}", get(0));
}

fn serve(questions: u64) {
    let mut message = ipc::recv().must("recv");
    for question in 0..questions {
        if message.value != question {
            fail!("question {question} expected: {message:?}");
        }
        let (to, answer) = (message.from, question * 3 + 1);
        if question + 1 == questions {
            return ipc::send(to, answer).must("send");
        }
        message = ipc::call(to, answer).must("call");
    }
}
