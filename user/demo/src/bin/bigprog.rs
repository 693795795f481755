//! Two mebibytes of program, of which little is needed: touches the given addresses, and waits.
//!
//! `bigprog [r:ADDRESS | w:ADDRESS]...`: reads or writes there (hexadecimal). Then it sends the number of its faults to
//! its parent, and ends when it receives a message. See `demandexec`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::AtomicU64;
use libos::{Args, Error, env, ipc, raw, stats};

libos::entry!(main);

const WORDS: usize = (1 << 20) / 8;

/// Data in the file, to be read.
#[used]
static TABLE: [u64; WORDS] = [0x6e6f_7420_6e65_6564; WORDS];
/// Data in the file, to be written.
#[used]
static DATA: [AtomicU64; WORDS] = [const { AtomicU64::new(0x6e6f_7420_6e65_6564) }; WORDS];

fn main(args: Args) -> Result<(), Error> {
    for arg in args {
        let Some((how, address)) = arg.split_once(':') else { continue };
        let address = u64::from_str_radix(address, 16).unwrap_or(0);
        let word = raw::read_u64(address);
        if how == "w" {
            raw::write_u64(address, !word);
        }
    }
    ipc::send(env::parent(), stats::get().file_pages)?;
    ipc::recv_from(env::parent())?;
    Ok(())
}
