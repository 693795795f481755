//! A page goes to the child by IPC, and comes back changed.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{EnvId, Error, Fork, Perms, Va, env, fork, ipc, println, raw, sys};

libos::entry!(main);

const TEMP_ADDR: Va = Va(0x0a00_0000);
const TEMP_ADDR_CHILD: Va = Va(0x0b00_0000);
const STR1: &str = "hello child environment! how are you?";
const STR2: &str = "hello parent environment! I'm good.";

/// Whether this text is at this address.
fn received(va: Va, text: &str) -> bool {
    raw::bytes_at(va.0, text.len()) == text.as_bytes() && raw::read_u8(va.0 + text.len() as u64) == 0
}

fn main() -> Result<(), Error> {
    let Fork::Parent(child) = fork()? else { return as_child() };

    sys::alloc(EnvId::SELF, TEMP_ADDR, 1, Perms::WRITE)?;
    raw::write_text(TEMP_ADDR.0, format_args!("{STR1}"));
    ipc::send_page(child.id(), 0, TEMP_ADDR, Perms::WRITE)?;

    let message = ipc::recv_page(TEMP_ADDR)?;
    println!("{} got message: {}", message.from, raw::TextAt(TEMP_ADDR.0));
    assert!(message.page && message.from == child.id() && received(TEMP_ADDR, STR2));
    println!("parent received correct message");
    let status = child.wait()?;
    assert!(status.is_success(), "the child: {status}");
    Ok(())
}

fn as_child() -> Result<(), Error> {
    let message = ipc::recv_page(TEMP_ADDR_CHILD)?;
    println!("{} got message: {}", message.from, raw::TextAt(TEMP_ADDR_CHILD.0));
    assert!(message.page && message.from == env::parent() && received(TEMP_ADDR_CHILD, STR1));
    println!("child received correct message");

    raw::write_text(TEMP_ADDR_CHILD.0, format_args!("{STR2}"));
    ipc::send_page(message.from, 0, TEMP_ADDR_CHILD, Perms::WRITE)?;
    Ok(())
}
