//! Tests of how messages find their receivers.

use crate::tests::world::*;
use crate::*;
use abi::{EnvId, ExitStatus, Status, call::NO_PAGE};
use core::sync::atomic::Ordering::Acquire;
use loom::{sync::Arc, thread};

/// A receiver waits, and its processor gives it up, while its message comes from another processor, which goes on with
/// its own environment: the receiver wakes up, on the processor that it left.
#[test]
fn no_message_is_lost() {
    model(|| {
        let world = World::new(2);
        let receiver = world.run(1, 0);
        together(
            &world,
            move |world| {
                world.lock().receive(receiver, 7, world.table[0].id(), NEVER);
                world.leave(receiver);
                let next = world.next(0);
                assert_eq!((next.slot, next.status()), (1, Status::Running));
            },
            move |world| {
                let mut sched = world.lock();
                let sender = world.table[0].id();
                while sched.claim(receiver, receiver.id(), sender) != Some(7) {
                    drop(sched);
                    thread::yield_now();
                    sched = world.lock();
                }
                assert!(sched.deliver(receiver));
                if sched.hand_over(receiver, 1) {
                    // It runs here first, until its time slice is over.
                    drop(sched);
                    receiver.touch();
                    world.lock().requeue(receiver);
                    world.leave(receiver);
                } else {
                    sched.wake(receiver);
                }
            },
        );
    });
}

/// A receiver is ended while a page is handed to it: its page map stays until the page is there.
#[test]
fn a_page_map_stays_while_a_page_comes() {
    model(|| {
        let world = World::new(2);
        let receiver = world.run(1, 1);
        world.lock().receive(receiver, 7, EnvId::ANY, NEVER);
        world.leave(receiver);
        together(
            &world,
            move |world| {
                if world.lock().claim(receiver, receiver.id(), world.table[0].id()).is_some() {
                    receiver.map();
                    let mut sched = world.lock();
                    if sched.deliver(receiver) {
                        sched.wake(receiver);
                    }
                }
            },
            move |world| {
                assert!(world.lock().condemn(receiver, ExitStatus::DESTROYED, EnvId::NONE, Family::GoesUp));
                while receiver.status() == Status::Dying {
                    world.slice(world.next(1));
                    thread::yield_now();
                }
            },
        );
        assert_eq!(receiver.status(), Status::Zombie);
    });
}

/// A sender ends while a receiver begins to wait for it: the receiver is told.
#[test]
fn nobody_waits_for_the_dead() {
    model(|| {
        let world = World::new(3);
        let (receiver, sender) = (world.run(1, 0), world.run(2, 1));
        together(
            &world,
            move |world| {
                let mut sched = world.lock();
                let lives = !matches!(sender.status(), Status::Dying | Status::Zombie);
                let waits = lives && sched.receive(receiver, 0, sender.id(), NEVER);
                drop(sched);
                world.leave(receiver);
                while waits && receiver.status() != Status::Running {
                    let found = world.next(0);
                    if found.status() == Status::Dying {
                        world.slice(found);
                    }
                }
            },
            move |world| {
                assert!(world.lock().condemn(sender, ExitStatus::SUCCESS, sender.id(), Family::GoesUp));
                world.leave(sender);
                // Unless the other processor found it first.
                let found = world.lock().dequeue(1);
                match found.map(Node::status) {
                    Some(Status::Dying) => world.slice(sender),
                    Some(_) => {
                        world.lock().requeue(receiver);
                        world.leave(receiver);
                    }
                    None => {}
                }
            },
        );
    });
}

impl World {
    /// Makes an environment wait for a message, held by no processor.
    fn listen(&self, slot: usize, from: EnvId) -> &'static Env {
        let env = self.run(slot, 0);
        assert!(self.lock().receive(env, NO_PAGE, from, NEVER));
        self.leave(env);
        env
    }

    /// A point at which loom lets other threads run. (Without it, loom would not try the orders in which another thread
    /// reads a word between a read and an exchange of it.)
    fn meet(&self) {
        drop(self.lock());
    }

    /// Exchanges messages between the environment that runs here and a receiver, without the lock. `false`: the caller
    /// goes on.
    fn exchange(&self, me: &'static Env, to: &'static Env, processor: u32, only_from_it: bool) -> bool {
        me.touch();
        let id = to.id();
        self.meet();
        if !take(to, id, me.id(), processor) {
            return false;
        }
        to.touch();
        self.meet();
        let from = if only_from_it { to.id() } else { EnvId::ANY };
        if !park(me, to, from, processor) {
            self.lock().receive(me, NO_PAGE, from, NEVER);
            self.give_back(me);
        }
        true
    }
}

/// Two environments send to one receiver at once, each on its processor and without the lock: the receiver runs once,
/// on the processor that took it.
#[test]
fn one_of_two_takes_a_receiver() {
    model(|| {
        let world = World::new(3);
        let receiver = world.listen(2, EnvId::ANY);
        let senders = [world.run(0, 0), world.run(1, 1)];
        let won = |slot: usize| senders[slot].status() == Status::Receiving;
        let sender = |slot: usize| {
            move |world: &World| {
                let sent = world.exchange(senders[slot], receiver, slot as u32, true);
                assert_eq!(sent, senders[slot].status() == Status::Receiving);
            }
        };
        together(&world, sender(0), sender(1));
        assert!(won(0) != won(1));
        assert_eq!((receiver.status(), receiver.holder()), (Status::Running, Some(u32::from(won(1)))));
        assert!(senders.iter().all(|sender| sender.holder().is_none() || sender.status() == Status::Running));
    });
}

/// A message without the lock, and one with a page, which takes time: only one of them arrives.
#[test]
fn a_claimed_receiver_is_not_taken() {
    model(|| {
        let world = World::new(3);
        let receiver = world.listen(2, EnvId::ANY);
        let (quick, slow) = (world.run(0, 0), world.run(1, 1));
        together(
            &world,
            move |world| _ = world.exchange(quick, receiver, 0, false),
            move |world| {
                if world.lock().claim(receiver, receiver.id(), slow.id()).is_some() {
                    receiver.map();
                    let mut sched = world.lock();
                    assert!(sched.deliver(receiver), "somebody else took it");
                    receiver.touch();
                    sched.wake(receiver);
                }
            },
        );
        let taken = receiver.holder() == Some(0);
        assert_eq!(receiver.status(), if taken { Status::Running } else { Status::Runnable });
        assert_eq!(quick.status(), if taken { Status::Receiving } else { Status::Running });
    });
}

/// A receiver is ended while a message is sent to it without the lock: it gets the message or not, and it ends once.
#[test]
fn a_receiver_ends_or_is_taken() {
    model(|| {
        let world = World::new(2);
        let receiver = world.listen(1, EnvId::ANY);
        let sender = world.run(0, 0);
        together(
            &world,
            move |world| {
                if world.exchange(sender, receiver, 0, true) {
                    // It runs here until the processor is interrupted.
                    while !world.bells[0].rung.load(Acquire) {
                        thread::yield_now();
                    }
                    assert_eq!(receiver.status(), Status::Dying);
                    world.leave(receiver);
                    world.slice(world.next(0));
                    // The sender waited for this environment, and is awake now.
                    assert_eq!(world.next(0).slot, 0);
                } else {
                    world.slice(world.next(0));
                }
            },
            move |world| assert!(world.lock().condemn(receiver, ExitStatus::DESTROYED, EnvId::NONE, Family::GoesUp)),
        );
        assert_eq!((receiver.status(), sender.status()), (Status::Zombie, Status::Running));
    });
}

/// A sender is ended, stopped or kept off while it switches to the receiver without the lock: this takes effect, and
/// the receiver runs.
#[test]
fn a_sender_is_left_in_order() {
    fn check(meddle: fn(&World, &'static Env), then: fn(&World, &'static Env)) {
        model(move || {
            let world = World::new(2);
            let receiver = world.listen(1, EnvId::ANY);
            let sender = world.run(0, 0);
            together(
                &world,
                move |world| assert!(world.exchange(sender, receiver, 0, false)),
                move |world| meddle(world, sender),
            );
            assert_eq!((receiver.status(), receiver.holder()), (Status::Running, Some(0)));
            assert_eq!(sender.holder(), None);
            then(&world, sender);
        });
    }
    let end = |world: &World, sender| {
        assert!(world.lock().condemn(sender, ExitStatus::DESTROYED, EnvId::NONE, Family::GoesUp))
    };
    check(end, |world, sender| {
        assert!(world.lock().dequeue(1).is_some_and(|found| core::ptr::eq(found, sender)));
        assert_eq!(sender.status(), Status::Dying);
    });
    // Its call is done, so it waits all the same, and the environment that wanted to stop it gets this status.
    let stop = |world: &World, sender| assert_eq!(world.stop(sender), Err(Status::Receiving));
    check(stop, |_, sender| assert_eq!(sender.status(), Status::Receiving));
    let keep_off = |world: &World, sender: &'static Env| world.touch_kept_off(sender, 1);
    check(keep_off, |_, sender| assert_eq!(sender.status(), Status::Receiving));
}

/// The slot of a receiver gets another owner during a send to the previous one: the new owner is not taken.
#[test]
fn a_slot_is_not_mistaken() {
    model(|| {
        let world = World::new(2);
        let (sender, receiver) = (world.run(0, 0), world.listen(1, EnvId::ANY));
        let id = receiver.id();
        together(
            &world,
            move |world| {
                world.meet();
                if take(receiver, id, sender.id(), 0) {
                    receiver.touch();
                    assert_eq!(receiver.id(), id);
                }
            },
            move |world| {
                // No other environment waits for it: it is gone at once.
                let mut sched = world.lock();
                if sched.condemn(receiver, ExitStatus::DESTROYED, EnvId::NONE, Family::GoesUp)
                    && sched.hold(receiver, 1)
                {
                    drop(sched);
                    world.slice(receiver);
                    let mut sched = world.lock();
                    sched.reap(receiver);
                    assert!(sched.create(Some(sender), 0).is_some_and(|env| core::ptr::eq(env, receiver)));
                    drop(sched);
                    let receiver = world.run(1, 1);
                    assert!(world.lock().receive(receiver, NO_PAGE, EnvId::ANY, NEVER));
                    world.leave(receiver);
                }
            },
        );
    });
}

/// Two processors send to one receiver, which answers the sender of the message that it got; a third processor ends the
/// receiver. No environment waits forever, and none runs twice.
#[test]
fn three_processors() {
    model(|| {
        let world = World::new(3);
        let receiver = world.listen(2, EnvId::ANY);
        let senders = [world.run(0, 0), world.run(1, 1)];
        let sender = |slot: usize| {
            move |world: &World| {
                let processor = slot as u32;
                if world.exchange(senders[slot], receiver, processor, true) {
                    assert!(world.exchange(receiver, senders[slot], processor, false) || is_ending(receiver));
                }
            }
        };
        let threads: Vec<_> = (0..2)
            .map(|slot| {
                let (world, act) = (Arc::clone(&world), sender(slot));
                thread::spawn(move || act(&world))
            })
            .collect();
        assert!(world.lock().condemn(receiver, ExitStatus::DESTROYED, EnvId::NONE, Family::GoesUp));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(is_ending(receiver));
        for (sender, processor) in senders.iter().zip(0..2) {
            let runs = sender.holder() == Some(processor);
            // It goes on, or it waits for the environment that is ending.
            let waits = sender.status() == Status::Receiving;
            assert!(sender.status() == Status::Running && runs || waits && !runs);
        }
    });
}

fn is_ending(env: &Env) -> bool {
    env.status() == Status::Dying
}
