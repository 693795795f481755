//! Machines with disks: the kernel turns the IOMMU on and the disks off, and no disk changes.

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use std::fs;
use std::num::NonZeroU32;
use std::sync::Arc;
use tests::{Case, Disk, Request, Testbed, guest, named};
use xtask::archive::Archive;
use xtask::disk::{self, Errno, Faults, InjectedError, RequestKind};
use xtask::images::Flavor;
use xtask::machine::{Boot, Machine};
use xtask::session::{Options, Session, Step, scratch};

pub fn cases() -> Vec<Case> {
    vec![
        devices("disk-none", "^no devices: this machine has no IOMMU"),
        devices("disk-one", "^1 device, behind an IOMMU").disk(pattern()),
        devices("disk-two", "^2 devices, behind an IOMMU").disk(pattern()).disk(Disk::empty("3M")),
        hello("disk-two-processors").cpus(2).disk(pattern()),
        hello("disk-icount").icount().disk(pattern()),
        hello("disk-read-only").disk(pattern().read_only()),
        faults(),
        guest("driver").disk(pattern()).check(|run| {
            run.in_order(&[
                "^device 0 is environment 00001001, and has 2048 sectors$",
                "^1 interrupt.s., 0 accesses refused$",
                "^status 0, and the sector begins with 0x0$",
                "^2 interrupt.s., 1 accesses refused: 0x800005000$",
            ]);
        }),
        guest("dmaevil").disk(Disk::empty("1M")).check(|run| {
            run.count("was kept from accessing", 5);
            run.once("^10 of 10 refused; the secret is on the disk: false; it is intact: true$");
        }),
        guest("diskbench").disk(Disk::empty("1M")),
        storm("swapstorm-small", &["64", "200", "3000"], "1M"),
        storm("swapstorm-large", &["1000", "3000", "20000"], "16M").only(Flavor::Plain),
        storm("swapstorm-seed", &["100", "1000", "3000", "7"], "5M").cpus(2),
        fails("swapstorm-full", Disk::empty("1M"), "no page could be evicted: the disk is full"),
        fails(
            "swapstorm-broken",
            broken(RequestKind::Write),
            "no page could be evicted: the disk could not read or write",
        ),
        fails("swapstorm-lost", broken(RequestKind::Read), "the page at 0x[0-9a-f]+ could not be read: the disk could"),
        // Four times the memory of a small machine.
        named("bigsort", "bigsort").memory("20M").disk(Disk::empty("160M")).only(Flavor::Plain).check(|run| {
            run.once("^sort ").once("^[0-9]+ records are in order, and all are there$");
        }),
    ]
}

/// Random accesses to more pages than there are frames.
fn storm(name: &str, args: &[&str], size: &str) -> Case {
    named(name, "swapstorm").args(args).disk(Disk::empty(size)).check(|run| {
        run.once("^[0-9]+ accesses to [0-9]+ pages .* failures: 0 }$").never("^the last failure");
    })
}

/// A program that ends because its disk failed, and says so.
fn fails(name: &str, disk: Disk, reason: &'static str) -> Case {
    named(name, "swapstorm").args(&["64", "1000", "3000"]).disk(disk).exits(78).check(move |run| {
        run.once(&format!(r"^\[00001000\] swap: {reason}"));
    })
}

/// A disk that fails at each request of a kind.
fn broken(request: RequestKind) -> Disk {
    Disk::empty("16M").failing(InjectedError { request, sector: None, errno: Errno::IO, once: false })
}

/// The bytes of an image: no two sectors are equal.
fn bytes() -> Vec<u8> {
    (0..2048_u64).flat_map(|sector| [sector.to_le_bytes(); 64]).flatten().collect()
}

fn pattern() -> Disk {
    Disk::of(bytes())
}

/// The program that tells what the kernel found.
fn devices(name: &str, expected: &'static str) -> Case {
    named(name, "devices").check(move |run| {
        run.once(expected).expect(run.disks.iter().take(1).all(|disk| disk.bytes() == bytes()), "the image changed");
    })
}

/// A program that uses no disk, and a first disk that must stay as it is.
fn hello(name: &str) -> Case {
    named(name, "hello").check(|run| {
        run.once("^hello, world").expect(run.disks[0].bytes() == bytes(), "the image changed");
    })
}

/// All kinds of fault injection at once: the emulator must understand them.
fn faults() -> Case {
    let error = |request| InjectedError { request, sector: Some(1), errno: Errno::IO, once: true };
    let kinds =
        [RequestKind::Read, RequestKind::Write, RequestKind::Flush, RequestKind::Discard, RequestKind::WriteZeroes];
    let disk = kinds.into_iter().fold(pattern(), |disk, kind| disk.failing(error(kind)));
    let limit = NonZeroU32::new(12).expect("a number above 0");
    let case = hello("disk-faults").disk(disk.limited(limit).logged());
    case.check(|run| _ = run.expect(run.disks[0].log().is_empty(), "something was written"))
}

pub fn trials(testbed: &Arc<Testbed>) -> Vec<Trial> {
    let testbed = Arc::clone(testbed);
    let judge = move || in_use(&testbed).map_err(|error| format!("{error:#}").into());
    vec![Trial::test("disk-in-use", judge)]
}

/// Two machines cannot write the same image, and the error says so.
fn in_use(testbed: &Testbed) -> Result<()> {
    let directory = scratch()?;
    let (image, archive) = (directory.path().join("disk.img"), directory.path().join("archive.tar"));
    fs::write(&image, bytes()).context("cannot write the image")?;
    Archive::of(&testbed.counting_images().programs)?.write(&archive)?;
    let disk = disk::Disk { image, read_only: false, faults: Faults::default() };
    let request = Request { machine: Machine { disks: vec![disk], ..Machine::default() }, ..Request::of("sh") };
    let boot = Boot { kernel: testbed.kernel(Flavor::Plain).clone(), archive, line: request.line.clone() };
    let options = Options { timeout: Some(request.timeout), ..Options::default() };
    // The shell waits for input, and gets none.
    let mut first = Session::start(&testbed.qemu, &request.machine, &boot, &options)?;
    loop {
        match first.step()? {
            Step::Console(_) => break,
            Step::Ended | Step::TimeUp => bail!("the first machine printed nothing"),
            _ => {}
        }
    }
    let error = match testbed.boot(Flavor::Plain, &request) {
        Err(error) => format!("{error:#}"),
        Ok(run) => bail!("the second machine ran: {}", run.end),
    };
    ensure!(error.contains("another machine uses") && error.contains("disk.img; end that one"), "{error}");
    Ok(())
}
