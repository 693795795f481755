//! The crate `devices` on the emulator's own PCI bus, disk and IOMMU, without a kernel: the test accesses registers and
//! memory by the protocol "qtest", and the processor never starts.
//!
//! The registers of the simulated unit in the crate's own tests may be wrong in the same way as the crate. These are
//! not: they belong to the machine on which the kernel runs.

use abi::page::TABLE_ENTRIES;
use abi::{Frame, Level, Perms, Pte, Va};
use anyhow::{Context, Result, ensure};
use devices::pci::{self, Command as Bits, ConfigSpace, Function, Virtio};
use devices::remapping::{
    self, Domain, Fault, Frames, NONE, Registers, Table, Unit, context_entry, message, root_entry, set,
};
use libtest_mimic::Trial;
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tests::Testbed;

/// Addresses of the machine. What firmware would assign is assigned here.
const UNIT: u64 = 0xfed9_0000;
const ECAM: u64 = 0xb000_0000;
const BAR_1: u32 = 0xfebf_e000;
const BAR_4: u32 = 0xfebf_8000;

const DISK: Function = Function(1 << 3);
const DOMAIN: Domain = Domain(7);

/// Frames of the machine's memory.
const FRAMES: Frames = Frames { root: Frame(0x100), interrupts: Frame(0x101), queue: Frame(0x102) };
const CONTEXTS: Frame = Frame(0x103);
const MAP: [Frame; 3] = [Frame(0x104), Frame(0x105), Frame(0x106)];
const RINGS: Frame = Frame(0x110);
const DATA: Frame = Frame(0x111);
/// The addresses at which the disk sees the last two.
const RINGS_AT: Va = Va(0x3fe0_0000);
const DATA_AT: Va = RINGS_AT.add_pages(1);

pub fn trials(testbed: &Arc<Testbed>) -> Vec<Trial> {
    let testbed = Arc::clone(testbed);
    vec![Trial::test("iommu", move || Ok(test(&testbed.qemu).map_err(|error| format!("{error:#}"))?))]
}

/// The machine.
struct Machine {
    child: Child,
    ends: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    /// The queue, which the crate writes as memory.
    queue: &'static Table,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Machine {
    fn start(qemu: &Path) -> Result<Machine> {
        let mut child = Command::new(qemu)
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-m", "32M"])
            .args(["-machine", "q35", "-accel", "tcg", "-S", "-qtest", "stdio", "-qtest-log", "none"])
            .args(["-device", "intel-iommu,aw-bits=48"])
            .args(["-blockdev", "driver=null-co,node-name=disk,read-zeroes=on,size=1048576"])
            .args(["-device", "virtio-blk-pci,drive=disk,disable-legacy=on,iommu_platform=on,addr=1,ioeventfd=off"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run the emulator")?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let queue = Box::leak(Box::new([const { AtomicU64::new(0) }; TABLE_ENTRIES]));
        let machine = Machine { child, ends: RefCell::new((stdin, stdout)), queue };
        // The window of configuration spaces.
        machine.ask("outl 0xcf8 0x80000060");
        machine.ask(&format!("outl 0xcfc {:#x}", ECAM | 1));
        machine.write(DISK, 0x14, BAR_1);
        machine.write(DISK, 0x20, BAR_4);
        Ok(machine)
    }

    /// Sends a request. Returns the value in the answer.
    fn ask(&self, request: &str) -> u64 {
        let (stdin, stdout) = &mut *self.ends.borrow_mut();
        writeln!(stdin, "{request}").expect("the emulator runs");
        loop {
            let mut line = String::new();
            let bytes = stdout.read_line(&mut line).expect("the emulator answers");
            assert!(bytes > 0, "the emulator ended at {request}");
            // (It also reports interrupts.)
            if let Some(value) = line.strip_prefix("OK") {
                let digits = value.trim().trim_start_matches("0x");
                return u64::from_str_radix(digits, 16).unwrap_or(0);
            }
            assert!(line.starts_with("IRQ"), "{request}: {line}");
        }
    }

    fn store(&self, address: u64, value: u64) {
        self.ask(&format!("writeq {address:#x} {value:#x}"));
    }

    /// Sets an entry in a table of the unit.
    fn set(&self, table: Frame, index: u8, entry: remapping::Entry) {
        let staged = [const { AtomicU64::new(0) }; TABLE_ENTRIES];
        set(&staged, index, entry);
        for half in [1, 0] {
            let word = 2 * usize::from(index) + half;
            self.store(table.address() + 8 * word as u64, staged[word].load(Relaxed));
        }
    }

    /// Enters a page in the disk's page map.
    fn map(&self, page: Va, entry: Pte) {
        let bits = Pte::PRESENT | Pte::WRITABLE | Pte::USER | Pte::EDIT;
        let [top, middle, bottom] = MAP;
        self.store(top.address() + 8 * page.index(Level::L3) as u64, middle.address() | bits);
        self.store(middle.address() + 8 * page.index(Level::L2) as u64, bottom.address() | bits);
        self.store(bottom.address() + 8 * page.index(Level::L1) as u64, entry.0);
    }
}

impl ConfigSpace for Machine {
    fn read(&self, function: Function, offset: u8) -> u32 {
        self.ask(&format!("readl {:#x}", ECAM + u64::from(function.0) * 4096 + u64::from(offset))) as u32
    }

    fn write(&self, function: Function, offset: u8, value: u32) {
        self.ask(&format!("writel {:#x} {value:#x}", ECAM + u64::from(function.0) * 4096 + u64::from(offset)));
    }
}

impl Registers for &Machine {
    fn read32(&self, register: u32) -> u32 {
        self.ask(&format!("readl {:#x}", UNIT + u64::from(register))) as u32
    }

    fn read64(&self, register: u32) -> u64 {
        self.ask(&format!("readq {:#x}", UNIT + u64::from(register)))
    }

    fn write32(&self, register: u32, value: u32) {
        self.ask(&format!("writel {:#x} {value:#x}", UNIT + u64::from(register)));
    }

    fn write64(&self, register: u32, value: u64) {
        // The queue is in the memory of the test.
        let words = self.queue.iter().flat_map(|word| word.load(Relaxed).to_le_bytes());
        let hex: String = words.map(|byte| format!("{byte:02x}")).collect();
        self.ask(&format!("write {:#x} 0x1000 0x{hex}", FRAMES.queue.address()));
        self.ask(&format!("writeq {:#x} {value:#x}", UNIT + u64::from(register)));
    }

    fn relax(&self) {}
}

/// A driver of the disk: one request at a time.
struct Disk<'a> {
    machine: &'a Machine,
    parts: Virtio,
}

impl Disk<'_> {
    /// Resets the disk and sets its queue up. Its interrupt is entry 0 of MSI-X.
    fn reset(&self) -> Result<()> {
        let (machine, common) = (self.machine, self.parts.registers.start);
        let byte = |offset, value: u8| machine.ask(&format!("writeb {:#x} {value:#x}", common + offset));
        let half = |offset, value: u16| machine.ask(&format!("writew {:#x} {value:#x}", common + offset));
        let word = |offset, value: u32| machine.ask(&format!("writel {:#x} {value:#x}", common + offset));
        let status = || machine.ask(&format!("readb {:#x}", self.parts.status));
        machine.ask(&format!("writeb {:#x} 0", self.parts.status));
        ensure!(status() == 0, "the disk does not reset");
        byte(20, 3);
        for (half, features) in [(0, 0), (1, 3)] {
            word(8, half);
            word(12, features);
        }
        byte(20, 11);
        ensure!(status() == 11, "features are refused");
        half(22, 0);
        half(24, 8);
        half(26, 0);
        for (offset, part) in [(32, 0), (40, 0x400), (48, 0x800)] {
            word(offset, RINGS_AT.0 as u32 + part);
            word(offset + 4, 0);
        }
        half(28, 1);
        byte(20, 15);
        // Rings and the request are zeros, except for what follows: the buffer and its status are written by the disk.
        machine.ask(&format!("memset {:#x} 0x1000 0", RINGS.address()));
        let descriptors = [(RINGS_AT.0 + 0xc00, 16, 1, 1), (DATA_AT.0, 512, 3, 2), (RINGS_AT.0 + 0xc20, 1, 2, 0)];
        for (index, (address, bytes, flags, next)) in (0..).zip(descriptors) {
            machine.store(RINGS.address() + 16 * index, address);
            machine.store(RINGS.address() + 16 * index + 8, bytes | flags << 32 | next << 48);
        }
        Ok(())
    }

    /// Has sector 0, which is zeros, read over other data. Returns whether it arrived.
    fn read(&self) -> Result<bool> {
        self.reset()?;
        self.machine.store(DATA.address(), u64::MAX);
        self.machine.store(RINGS.address() + 0x400, 1 << 16);
        self.machine.ask(&format!("writew {:#x} 0", self.parts.registers.start + 0x3000));
        // An answer may never come.
        for _ in 0..50 {
            if self.machine.ask(&format!("readw {:#x}", RINGS.address() + 0x802)) == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self.machine.ask(&format!("readq {:#x}", DATA.address())) == 0)
    }
}

fn faults(unit: &mut Unit<&Machine>) -> Vec<Fault> {
    let mut all = Vec::new();
    let _ = unit.take_faults(|fault| all.push(fault));
    all
}

fn fault(page: Va, reason: u8, is_write: bool) -> Fault {
    Fault { source: DISK, page, reason, is_write }
}

fn test(qemu: &Path) -> Result<()> {
    let machine = &Machine::start(qemu)?;
    let found: Vec<u16> = pci::functions(machine, 0).map(|function| function.0).collect();
    ensure!(found == [0, DISK.0, 0xf8, 0xfa, 0xfb], "functions {found:x?}");
    let parts = Virtio::find(machine, DISK).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    ensure!(parts.registers == (BAR_4.into()..u64::from(BAR_4) + 0x4000), "{parts:x?}");
    ensure!(parts.interrupts == (BAR_1.into()..u64::from(BAR_1) + 0x20), "{parts:x?}");
    let disk = Disk { machine, parts };
    pci::set_command(machine, DISK, Bits::MEMORY | Bits::MASTER | Bits::NO_INTX);
    disk.parts.enable_interrupts(machine, DISK);
    for (word, value) in (0..).zip(message(5)) {
        machine.ask(&format!("writel {:#x} {value:#x}", disk.parts.interrupts.start + 4 * word));
    }
    machine.ask(&format!("writel {:#x} 0", disk.parts.interrupts.start + 12));

    let started = Unit::start(machine, 10, FRAMES, machine.queue);
    let mut unit = started.map_err(|error| anyhow::anyhow!("{error:x?}"))?;
    let page = |frame, perms| Pte(Pte::page(frame, perms).0 | Pte::MAY);
    machine.map(RINGS_AT, page(RINGS, Perms::WRITE));
    machine.map(DATA_AT, page(DATA, Perms::WRITE));
    let is_blocked = |unit: &mut Unit<&Machine>, reason| -> Result<()> {
        ensure!(!disk.read()?, "data arrived");
        let found = faults(unit);
        ensure!(found.first().is_some_and(|first| first.source == DISK && first.reason == reason), "{found:x?}");
        Ok(())
    };
    is_blocked(&mut unit, 1)?;
    machine.set(FRAMES.root, 0, root_entry(CONTEXTS));
    is_blocked(&mut unit, 2)?;
    let context = context_entry(MAP[0], DOMAIN);
    machine.set(CONTEXTS, DISK.0 as u8, context);
    ensure!(disk.read()?, "no data arrived: {:x?}", faults(&mut unit));
    // (The emulator only prints that it has refused interrupts.)
    for source in [Function(2 << 3), DISK] {
        machine.set(FRAMES.interrupts, 5, remapping::interrupt_entry(source, 0x41, 0));
        unit.invalidate(DOMAIN).map_err(|error| anyhow::anyhow!("{error:x?}"))?;
        ensure!(disk.read()?, "no data arrived");
    }
    // Less rights, no page, a reserved bit; then no context.
    for (entry, reason) in [(page(DATA, Perms::READ), 5), (Pte(0), 5), (Pte(page(DATA, Perms::WRITE).0 | 1 << 11), 0xc)]
    {
        machine.map(DATA_AT, entry);
        unit.invalidate(DOMAIN).map_err(|error| anyhow::anyhow!("{error:x?}"))?;
        ensure!(!disk.read()?, "data arrived through {entry:?}");
        let found = faults(&mut unit);
        ensure!(found == [fault(DATA_AT, reason, true)], "{entry:?}: {found:x?}");
    }
    machine.set(CONTEXTS, DISK.0 as u8, NONE);
    unit.invalidate(DOMAIN).map_err(|error| anyhow::anyhow!("{error:x?}"))?;
    is_blocked(&mut unit, 2)?;
    Ok(())
}
