//! Passes valid text to the console call with a length that runs off its page: nothing is printed.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::abi::{Call, Error};
use libos::{EnvId, Perms, Va, println, raw, sys};

libos::entry!(main);

fn main() -> sys::Result<()> {
    let page = Va(0x5000_0000);
    let end = page.add_pages(1).0;
    sys::alloc(EnvId::SELF, page, 1, Perms::WRITE)?;
    let text = end - 20;
    raw::write_text(text, format_args!("hello, world\n"));

    let (rax, rdx) = raw::syscall(Call::Write as u64, [text, 1 << 20, 0, 0, 0, 0]);
    let result = Error::decode(rax, rdx);
    println!("write(.., 1048576): {result:x?}");
    assert_eq!(result, Err(Error::Fault(end)));
    Ok(())
}
