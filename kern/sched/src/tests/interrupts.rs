//! Tests of how interrupts and deadlines find the receivers that wait for them.

use crate::tests::world::*;
use crate::*;
use abi::call::NO_PAGE;
use abi::{EnvId, Status};
use core::sync::atomic::Ordering::{Acquire, Release};
use loom::thread;

/// A device that something happens to: the other processor interrupts as soon as it is allowed to.
struct Disk {
    masked: AtomicBool,
    counted: AtomicU64,
    reported: AtomicU64,
}

impl Disk {
    fn new() -> &'static Disk {
        let [counted, reported] = [AtomicU64::new(0), AtomicU64::new(0)];
        Box::leak(Box::new(Disk { masked: AtomicBool::new(true), counted, reported }))
    }

    /// Puts all interrupts into a message. For a caller that has the scheduler locked.
    fn report(&self) {
        self.reported.store(self.counted.load(Acquire), Release);
    }
}

impl Device for Disk {
    fn count(&self) {
        self.counted.fetch_add(1, Release);
    }

    fn is_pending(&self) -> bool {
        self.counted.load(Acquire) != self.reported.load(Acquire)
    }

    fn mask(&self, masked: bool) {
        self.masked.store(masked, Release);
    }
}

const DEVICE: EnvId = EnvId(0x2002);

impl World {
    /// The interrupt, once it is not masked.
    fn interrupt(&self, disk: &Disk, holder: &'static Env) {
        while disk.masked.load(Acquire) {
            thread::yield_now();
        }
        let mut sched = self.lock();
        if sched.interrupt(disk, DEVICE, holder) {
            disk.report();
            sched.wake(holder);
        }
    }

    /// Receives a message of the device on processor 0. Returns whether the holder has waited.
    fn hear(&self, disk: &Disk, me: &'static Env, deadline: u64) -> bool {
        let mut sched = self.lock();
        if sched.listen(disk) {
            disk.report();
            return false;
        }
        assert!(sched.receive(me, NO_PAGE, EnvId::ANY, deadline));
        drop(sched);
        self.leave(me);
        true
    }
}

/// A holder waits twice, and its device interrupts twice: each wait ends, because an interrupt that comes between two
/// waits is found by the second one.
#[test]
fn no_interrupt_is_lost() {
    model(|| {
        let (world, disk) = (World::new(1), Disk::new());
        let holder = world.run(0, 0);
        together(
            &world,
            move |world| {
                for _ in 0..2 {
                    if world.hear(disk, holder, NEVER) {
                        world.next(0);
                    }
                }
                assert!(!disk.is_pending(), "one for each wait");
            },
            move |world| (0..2).for_each(|_| world.interrupt(disk, holder)),
        );
        assert!(disk.masked.load(Acquire));
    });
}

/// An interrupt comes while a sender is about to hand over a page, and the sender has none in the end: the holder gets
/// the interrupt.
#[test]
fn an_interrupt_waits_for_a_sender() {
    model(|| {
        let (world, disk) = (World::new(2), Disk::new());
        let holder = world.run(0, 0);
        assert!(world.hear(disk, holder, NEVER));
        together(
            &world,
            move |world| {
                let mut sched = world.lock();
                if sched.claim(holder, holder.id(), world.table[1].id()).is_some() {
                    drop(sched);
                    holder.map();
                    sched = world.lock();
                    sched.disclaim(holder);
                    if sched.tell(disk, DEVICE, holder) {
                        disk.report();
                        sched.wake(holder);
                    }
                }
                drop(sched);
                world.next(0);
                assert!(!disk.is_pending());
            },
            move |world| world.interrupt(disk, holder),
        );
    });
}

/// A deadline passes while a page comes: the receiver wakes up once, and its page map stays until the page is there.
#[test]
fn a_deadline_waits_for_a_page() {
    model(|| {
        let world = World::new(2);
        let receiver = world.run(1, 1);
        assert!(world.lock().receive(receiver, 7, EnvId::ANY, 5));
        world.leave(receiver);
        let sent = Box::leak(Box::new(AtomicBool::new(false)));
        let sent: &'static AtomicBool = sent;
        together(
            &world,
            move |world| {
                let claimed = world.lock().claim(receiver, receiver.id(), world.table[0].id());
                if claimed.is_some() {
                    receiver.map();
                    let mut sched = world.lock();
                    assert!(sched.deliver(receiver), "it waits until the page is there");
                    sent.store(true, Release);
                    sched.wake(receiver);
                }
            },
            move |world| {
                _ = world.lock().expire(5);
                // If a message is on its way, the deadline is looked at again, as at each tick.
                while receiver.status() == Status::ReceivingUntil {
                    thread::yield_now();
                    _ = world.lock().expire(6);
                }
                assert_eq!(world.next(1).slot, 1);
                receiver.map();
            },
        );
        assert_eq!(receiver.status(), Status::Running);
        let mut sched = world.lock();
        assert!(sched.dequeue(0).is_none(), "it woke up twice");
        _ = sched.expire(NEVER - 1);
        assert!(!sched.has_deadlines());
    });
}

/// A sender without the lock does not take a receiver with a deadline: one that is late may already be runnable.
#[test]
fn a_receiver_with_a_deadline_is_not_taken() {
    model(|| {
        let world = World::new(2);
        let receiver = world.run(1, 1);
        assert!(world.lock().receive(receiver, NO_PAGE, EnvId::ANY, 5));
        world.leave(receiver);
        let sender = world.run(0, 0);
        together(
            &world,
            move |_| assert!(!take(receiver, receiver.id(), sender.id(), 0)),
            move |world| {
                assert!(world.lock().expire(5));
                assert_eq!(world.next(1).slot, 1);
            },
        );
    });
}
