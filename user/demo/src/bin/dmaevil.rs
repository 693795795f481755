//! A driver that tells its disk to read and write memory of others. The IOMMU refuses, and the driver learns of it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use core::error::Error;
use libos::disk::{Buffer, Disk, Request, Sector};
use libos::{EnvId, Fork, PAGE_SIZE, Perms, Va, fork, ipc, layout, println, raw, sys, uvpt};

libos::entry!(main);

const SECRET: u64 = 0x5ec2_e75e_c2e7_5ec2;
const PAGE: Va = Va(0x5000_0000);

fn main() -> Result<(), Box<dyn Error>> {
    let victim = victim()?;
    let frame = victim.recv()?;
    println!("another program has a secret at physical address {frame:#x}");
    let mut disk = Disk::open(0)?;
    let mut buffer = Buffer::new(&disk, 1)?;
    buffer.bytes_mut().fill(b'x');
    buffer.write(&mut disk, Sector(0))?;
    println!("the disk writes and reads a buffer that it was given: {:?}", buffer.read(&mut disk, Sector(0)).is_ok());

    let mut refused = 0;
    let targets = [
        ("the secret", frame),
        ("the kernel", 0x10_0000),
        ("the page tables of this program", uvpt::top(0).frame().address()),
        ("its own registers", uvpt::pte(disk.device().registers().start).frame().address()),
        ("the code of this program", layout::TEXT.0),
    ];
    for (what, address) in targets {
        let memory = [raw::memory_of_disk(address, PAGE_SIZE as u32)];
        let read = disk.execute(Request::Read(Sector(0), &memory));
        disk.restart()?;
        let write = disk.execute(Request::Write(Sector(8), &memory));
        disk.restart()?;
        refused += u32::from(read.is_err()) + u32::from(write.is_err());
        println!("{what}, {address:#x}: {}", read.map_or_else(|error| alloc::format!("{error}"), |()| "read".into()));
    }
    buffer.read(&mut disk, Sector(8))?;
    let stolen = buffer.bytes().chunks(8).any(|word| word == SECRET.to_ne_bytes());
    victim.ask()?;
    let intact = victim.recv()? == 1;
    println!("{refused} of {} refused; the secret is on the disk: {stolen}; it is intact: {intact}", 2 * targets.len());
    if stolen || !intact || refused < 2 * targets.len() as u32 {
        Err("the IOMMU let something pass".into())
    } else {
        Ok(())
    }
}

/// A program that has a page full of secrets.
struct Victim(EnvId);

fn victim() -> Result<Victim, Box<dyn Error>> {
    let me = libos::env::id();
    match fork()? {
        Fork::Parent(child) => Ok(Victim(child.id())),
        Fork::Child => {
            guard_secret(me)?;
            libos::exit(0)
        }
    }
}

/// Tells where the secret is; and, when asked, whether it is intact.
fn guard_secret(other: EnvId) -> Result<(), Box<dyn Error>> {
    sys::alloc(EnvId::SELF, PAGE, 1, Perms::WRITE)?;
    let words = || (PAGE.0..PAGE.0 + PAGE_SIZE).step_by(8);
    words().for_each(|word| raw::write_u64(word, SECRET));
    ipc::send(other, uvpt::pte(PAGE).frame().address())?;
    ipc::recv_from(other)?;
    ipc::send(other, words().all(|word| raw::read_u64(word) == SECRET).into())?;
    Ok(())
}

impl Victim {
    fn recv(&self) -> Result<u64, libos::abi::Error> {
        Ok(ipc::recv_from(self.0)?.value)
    }

    fn ask(&self) -> Result<(), libos::abi::Error> {
        ipc::send(self.0, 0)
    }
}
