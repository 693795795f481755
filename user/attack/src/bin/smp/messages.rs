//! Messages to and from environments that are ended or stopped at that moment.

use crate::kit::{Crew, Draw, Ends, Must, add, busy, child, cpus, fail, get, pause, rounds, until};
use libos::{EnvId, Perms, Status, Va, abi::Error, ipc, println, sys};

const PAGE: Va = Va(0x2000_0000_0000);

/// Receivers are destroyed while many send to them, with pages.
pub fn dead_receivers() {
    let mut done = 0;
    for round in rounds(60) {
        let receiver = busy(|| {
            ipc::recv_page(PAGE).must("recv");
            add(0);
        });
        let before = get(0);
        let senders = Crew::new(cpus().min(8), |_| child(|| send_until_it_ends(receiver.id())));
        until("messages arrive", || get(0) > before + 3);
        pause(round % 8 * 300);
        receiver.put_down();
        senders.ends();
        done = round + 1;
    }
    println!("dead: {done} receivers, {} messages", get(0));
}

fn send_until_it_ends(to: EnvId) {
    sys::alloc(EnvId::SELF, PAGE, 1, Perms::WRITE).must("alloc");
    loop {
        match ipc::send_page(to, 1, PAGE, Perms::WRITE) {
            Ok(()) => {}
            Err(Error::BadEnv(_)) => return,
            Err(error) => fail!("send: {error:?}"),
        }
    }
}

/// A receiver that waits for a certain sender is told when that sender ends, whether before or after the call.
pub fn awaited() {
    let draw = Draw::new(5);
    let (mut done, mut got) = (0, 0);
    for round in rounds(300) {
        let other = child(|| pause(draw.below(40) * draw.below(40)));
        // The order must differ between rounds.
        pause(draw.below(40) * draw.below(40));
        match ipc::recv_from(other.id()) {
            Err(Error::BadEnv(id)) if id == u64::from(other.id().0) => got += 1,
            result => fail!("{result:?} from one that has ended"),
        }
        other.ends();
        done = round + 1;
    }
    println!("awaited: {got} of {done} ends were heard of");
}

/// A client is stopped and started all the time: each of its questions is asked once, and answered.
pub fn stopped_client() {
    const QUESTIONS: u64 = 1500;
    let server = busy(|| {
        let question = ipc::recv().must("recv");
        if question.value != add(0) {
            fail!("question {} expected: {question:?}", get(0));
        }
        ipc::send(question.from, question.value * 2).must("send");
    });
    let client = child(|| {
        for question in rounds(QUESTIONS).map(|question| question + 1) {
            let answer = ipc::call(server.id(), question).must("call");
            if answer.value != 2 * question {
                fail!("{question} is answered {answer:?}");
            }
            add(1);
        }
        add(2);
    });
    let mut stops = 0u64;
    while get(2) == 0 {
        match sys::set_status(client.id(), Status::Stopped) {
            Ok(()) => {
                stops += 1;
                sys::set_status(client.id(), Status::Runnable).must("go on");
            }
            // The client waits, or it has ended.
            Err(Error::BadState(_)) => {}
            Err(Error::BadEnv(_)) => break,
            Err(error) => fail!("stop: {error:?}"),
        }
        pause(20);
    }
    client.ends();
    server.put_down();
    println!("stopped: {} questions answered, {stops} stops", get(1));
}
