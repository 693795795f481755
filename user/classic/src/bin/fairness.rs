//! Two environments send to a third as fast as they can: neither may starve the other.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{Child, Error, Fork, env, fork, ipc, println};

libos::entry!(main);

const MESSAGES: u32 = 100;

fn main() -> Result<(), Error> {
    let me = env::id();
    let mut senders: [Option<(Child, u32)>; 2] = [None; 2];
    for sender in &mut senders {
        match fork()? {
            Fork::Parent(child) => *sender = Some((child, 0)),
            Fork::Child => {
                println!("{} loop sending to {me}", env::id());
                loop {
                    ipc::send(me, 0)?;
                }
            }
        }
    }
    for _ in 0..MESSAGES {
        let who = ipc::recv()?.from;
        println!("{me} recv from {who}");
        for (child, count) in senders.iter_mut().flatten() {
            *count += u32::from(child.id() == who);
        }
    }
    for (child, count) in senders.into_iter().flatten() {
        println!("{count} of {MESSAGES} from {}", child.id());
        assert!(count >= MESSAGES * 4 / 10, "not fair");
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}
