//! A counter goes back and forth by IPC, from 0 to 10.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{Error, Fork, env, fork, ipc, println};

libos::entry!(main);

const LAST: u64 = 10;

fn main() -> Result<(), Error> {
    let me = env::id();
    match fork()? {
        Fork::Child => play(),
        Fork::Parent(child) => {
            println!("send 0 from {me} to {}", child.id());
            ipc::send(child.id(), 0)?;
            play()?;
            let status = child.wait()?;
            assert!(status.is_success(), "the child: {status}");
            Ok(())
        }
    }
}

fn play() -> Result<(), Error> {
    let me = env::id();
    let mut expected = None;
    loop {
        let message = ipc::recv()?;
        let (value, who) = (message.value, message.from);
        println!("{me} got {value} from {who}");
        assert!(expected.is_none_or(|expected| value == expected), "out of order");
        if value == LAST {
            return Ok(());
        }
        ipc::send(who, value + 1)?;
        if value + 1 == LAST {
            return Ok(());
        }
        expected = Some(value + 2);
    }
}
