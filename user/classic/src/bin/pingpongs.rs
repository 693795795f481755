//! Like pingpong, but the counter is in a page that both share; the messages only say whose turn it is.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{EnvId, Error, Fork, Perms, Va, env, fork, ipc, println, raw, sys};

libos::entry!(main);

const LAST: u64 = 10;
/// The counter. The page stays shared over fork.
const VALUE: Va = Va(0x0a00_0000);

fn main() -> Result<(), Error> {
    sys::alloc(EnvId::SELF, VALUE, 1, Perms::WRITE | Perms::KEEP)?;
    let me = env::id();
    match fork()? {
        Fork::Child => play(),
        Fork::Parent(child) => {
            println!("send 0 from {me} to {}", child.id());
            ipc::send(child.id(), 0)?;
            play()?;
            let status = child.wait()?;
            assert!(status.is_success(), "the child: {status}");
            assert_eq!(raw::read_u64(VALUE.0), LAST);
            Ok(())
        }
    }
}

fn play() -> Result<(), Error> {
    let me = env::id();
    loop {
        let who = ipc::recv()?.from;
        let value = raw::read_u64(VALUE.0);
        println!("{me} got {value} from {who}");
        if value == LAST {
            return Ok(());
        }
        raw::write_u64(VALUE.0, value + 1);
        ipc::send(who, 0)?;
        if value + 1 == LAST {
            return Ok(());
        }
    }
}
