//! Devices: environments without a processor.
//!
//! A device is bound to a PCI function. Its page map is what the function can access, and its only messages are its
//! interrupts. Its holder, which claimed it, edits the page map with the page calls; while the device runs, the map only
//! grows, because the IOMMU cannot stop an access that is under way. So a device is reset before it loses anything.
//!
//! Interrupts are counted and delivered under the scheduler's lock. Before the holder begins to wait, the interrupt is
//! unmasked; when it comes, it is masked again. So a device interrupts once for each wait, at most.

use crate::env::scheduler::{self, Locked};
use crate::env::table::{self, Env, Results, with_page_map};
use crate::machine::apic;
use crate::machine::hardware::Editable;
use crate::machine::iommu::{self, Device};
use abi::window::DeviceInfo;
use abi::{Call, EnvId, Error, ExitStatus, Status, Va};
use core::sync::atomic::Ordering::Relaxed;
use sched::{Family, Node};

/// How often a dying device is reset until it is given up.
const RESETS: u32 = 1_000;

/// The device that an environment is; `None` if it is a program.
fn device(env: &Env) -> Option<&'static Device> {
    iommu::device(u64::from(env.info().device.load(Relaxed)).checked_sub(1)?).ok()
}

/// Checks that an environment is a program.
///
/// # Errors
/// [`Error::IsDevice`].
#[inline(always)]
pub fn program(env: &'static Env) -> Result<&'static Env, Error> {
    if is_program(env) { Ok(env) } else { Err(Error::IsDevice(env.id().0.into())) }
}

/// Whether an environment is a program.
#[inline(always)]
pub fn is_program(env: &Env) -> bool {
    env.info().device.load(Relaxed) == 0
}

/// Whether an environment has devices.
#[inline(always)]
pub fn has_any(env: &Env) -> bool {
    env.info().devices.load(Relaxed) != 0
}

fn is_running(device: &Device) -> bool {
    device.info().running.load(Relaxed) != 0
}

/// The environment of a device, and its holder.
fn parties(device: &Device) -> Option<(&'static Env, &'static Env)> {
    let env = table::all().get(device.info().env().slot()).filter(|env| env.id() == device.info().env())?;
    Some((env, &table::all()[env.info().parent().slot()]))
}

/// The devices of a program.
fn of(holder: &Env) -> impl Iterator<Item = (&'static Device, &'static Env)> {
    let all = iommu::devices().filter_map(|device| Some((device, parties(device)?)));
    all.filter(|(_, (_, its))| core::ptr::eq(*its, holder)).map(|(device, (env, _))| (device, env))
}

/// Starts or stops a device.
#[cold]
#[inline(never)]
pub fn set_status(env: &'static Env, status: Status) -> Results {
    let device = device(env).ok_or(Error::BadEnv(env.id().0.into()))?;
    with_page_map(env, |map| {
        table::still_own(env)?;
        match status {
            Status::Runnable if is_running(device) => iommu::take_faults(),
            Status::Runnable => {
                let table = map.first_table().ok_or(Error::NotMapped(0))?;
                iommu::take_faults();
                let info = device.info();
                [&info.interrupts, &info.reported, &info.faults].into_iter().for_each(|count| count.store(0, Relaxed));
                info.running.store(1, Relaxed);
                device.start(table);
            }
            Status::Stopped if stop(device) => {}
            Status::Stopped => return Err(Error::NotReset(device.index as u64)),
            other => return Err(Error::BadStatus(other as u64)),
        }
        Ok((0, 0))
    })
}

/// Stops a device, whose page map is locked. `false` if it has not finished its reset.
fn stop(device: &Device) -> bool {
    let stopped = !is_running(device) || device.stop();
    device.info().running.store((!stopped).into(), Relaxed);
    stopped
}

/// How many pages of a run a call may change, with the page map locked: while a device runs, its map only grows.
///
/// # Errors
/// [`Error::Pinned`].
#[inline(always)]
pub fn unpinned(env: &'static Env, map: &Editable, call: Call, va: Va, count: u32) -> Result<u32, Error> {
    if is_program(env) { Ok(count) } else { empty(env, map, call, va, count) }
}

#[cold]
#[inline(never)]
fn empty(env: &'static Env, map: &Editable, call: Call, va: Va, count: u32) -> Result<u32, Error> {
    if !device(env).is_some_and(is_running) {
        return Ok(count);
    }
    let grows = matches!(call, Call::Alloc | Call::Map | Call::Copy);
    let free = if grows { map.empty_pages(va, count) } else { 0 };
    if free > 0 { Ok(free) } else { Err(Error::Pinned(va.0)) }
}

/// Handles an interrupt of the device with this index, whether a program ran or not.
pub fn interrupt(index: u64) {
    apic::end_of_interrupt();
    let Ok(device) = iommu::device(index) else { return };
    let mut locked = scheduler::lock();
    match parties(device) {
        Some((env, holder)) if locked.interrupt(device, env.id(), holder) => wake(&mut locked, device, env, holder),
        Some(_) => {}
        None => device.mask(true),
    }
}

/// Delivers the messages that came while a sender had claimed the receiver.
pub fn tell_all(locked: &mut Locked, holder: &'static Env) {
    if has_any(holder) {
        for (device, env) in of(holder) {
            if locked.tell(device, env.id(), holder) {
                wake(locked, device, env, holder);
            }
        }
    }
}

fn wake(locked: &mut Locked, device: &Device, env: &Env, holder: &'static Env) {
    holder.frame.set_results(message(device, env));
    locked.wake(holder);
}

impl sched::Device for Device {
    fn count(&self) {
        self.info().interrupts.fetch_add(1, Relaxed);
    }

    fn is_pending(&self) -> bool {
        self.info().interrupts.load(Relaxed) != self.info().reported.load(Relaxed)
    }

    fn mask(&self, masked: bool) {
        Device::mask(self, masked);
    }
}

/// The message of a device: its interrupts below, and the refused accesses above.
fn message(device: &Device, env: &Env) -> (u64, u64) {
    iommu::take_faults();
    let info = device.info();
    let interrupts = info.interrupts.load(Relaxed);
    info.reported.store(interrupts, Relaxed);
    (env.id().0.into(), u64::from(info.faults.load(Relaxed)) << 32 | u64::from(interrupts))
}

/// The message that a device already has for a program that is about to wait. If there is none, unmasks the interrupts
/// of the devices that it waits for.
#[inline(always)]
pub fn pending(locked: &mut Locked, me: &'static Env, from: EnvId) -> Option<(u64, u64)> {
    if has_any(me) { look(locked, me, from) } else { None }
}

#[cold]
#[inline(never)]
fn look(locked: &mut Locked, me: &'static Env, from: EnvId) -> Option<(u64, u64)> {
    let is_awaited = |id| from == EnvId::ANY || from == id;
    let mut awaited = of(me).filter(|(device, env)| is_running(device) && is_awaited(env.id()));
    awaited.find(|(device, _)| locked.listen(*device)).map(|(device, env)| message(device, env))
}

/// Whether a program waits for a device that runs.
pub fn are_awaited(locked: &Locked) -> bool {
    let mut running = iommu::devices().filter(|device| is_running(device)).filter_map(parties);
    running.any(|(env, holder)| locked.awaits(holder, env.id()))
}

/// Stops what could still access memory, before a dying environment is torn down: a device itself, or the devices of a
/// program. Returns whether teardown goes on.
#[inline(always)]
pub fn end(env: &'static Env) -> bool {
    is_program(env) && !has_any(env) || try_to_end(env)
}

#[cold]
#[inline(never)]
fn try_to_end(env: &'static Env) -> bool {
    let mut locked = scheduler::lock();
    of(env).for_each(|(_, child)| _ = locked.condemn(child, ExitStatus::DESTROYED, env.id(), Family::Ends));
    drop(locked);
    let Some(device) = device(env) else { return !has_any(env) };
    let mut map = env.page_map.lock();
    if stop(device) {
        return true;
    }
    let is_lost = device.info().resets.fetch_add(1, Relaxed) >= RESETS;
    if is_lost {
        // What the device can access is never freed.
        *map = None;
        device.info().env.store(DeviceInfo::LOST.0, Relaxed);
    }
    is_lost
}

/// Called when an environment is gone: if it was a device, somebody can claim that again.
#[inline(always)]
pub fn release(env: &Env) {
    if !is_program(env) {
        give_back(env);
    }
}

#[cold]
#[inline(never)]
fn give_back(env: &Env) {
    if let Some(device) = device(env) {
        table::all()[env.info().parent().slot()].info().devices.fetch_sub(1, Relaxed);
        _ = device.info().env.compare_exchange(env.id().0, EnvId::NONE.0, Relaxed, Relaxed);
    }
}
