//! The sieve of Eratosthenes as a pipeline: one environment for each prime number.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{Child, Error, Fork, env, fork, ipc, println};

libos::entry!(main);

/// The last number to be sieved: the 289th prime.
const LAST: u64 = 1877;
/// The end marker, which follows the last number down the pipeline.
const END: u64 = 0;

fn main() -> Result<(), Error> {
    match fork()? {
        Fork::Child => sieve(),
        Fork::Parent(first) => {
            for number in 2..=LAST {
                ipc::send(first.id(), number)?;
            }
            end(first)
        }
    }
}

/// Receives numbers: the first one is prime, and those that it does not divide go on to the next environment.
fn sieve() -> Result<(), Error> {
    let left = env::parent();
    let prime = ipc::recv_from(left)?.value;
    if prime == END {
        return Ok(());
    }
    println!("CPU {}: {prime}", env::cpu());
    let Fork::Parent(right) = fork()? else { return sieve() };
    loop {
        match ipc::recv_from(left)?.value {
            END => return end(right),
            number if number % prime != 0 => ipc::send(right.id(), number)?,
            _ => {}
        }
    }
}

/// Tells the rest of the pipeline to end, and waits for it.
fn end(next: Child) -> Result<(), Error> {
    ipc::send(next.id(), END)?;
    let status = next.wait()?;
    assert!(status.is_success(), "{}: {status}", next.id());
    Ok(())
}
