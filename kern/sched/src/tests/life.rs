//! Tests of how environments are held, stopped, kept off, ended and given back.

use crate::tests::world::*;
use crate::*;
use abi::{EnvId, ExitStatus, Status};
use core::sync::atomic::Ordering::Acquire;
use loom::thread;

/// Two processors look for work at once, leave what they found, and look again: neither has what the other one has.
/// (`touch` would notice.)
#[test]
fn no_two_hold_one() {
    model(|| {
        let world = World::new(2);
        for env in world.table {
            world.lock().start(env).unwrap();
        }
        let processor = |number| {
            move |world: &World| {
                for _ in 0..2 {
                    let taken = world.lock().dequeue(number);
                    if let Some(env) = taken {
                        env.touch();
                        world.lock().requeue(env);
                        world.leave(env);
                    }
                }
            }
        };
        together(&world, processor(0), processor(1));
        let mut sched = world.lock();
        let mut left: Vec<_> = (0..2).map(|_| sched.dequeue(0).expect("none is lost").slot).collect();
        left.sort_unstable();
        assert_eq!(left, [0, 1]);
    });
}

/// A processor switches from one environment to another, and stays there; the first one is left for the idle processor.
#[test]
fn what_is_given_up_finds_an_idle_processor() {
    model(|| {
        let world = World::new(2);
        let first = world.run(0, 0);
        world.lock().start(&world.table[1]).unwrap();
        together(
            &world,
            move |world| {
                let mut sched = world.lock();
                sched.requeue(first);
                let taken = sched.hand_over(&world.table[1], 0);
                let taken = if taken { Some(&world.table[1]) } else { sched.dequeue(0) };
                drop(sched);
                if taken.is_none_or(|taken| taken.slot != 0) {
                    world.leave(first);
                }
            },
            |world| _ = world.next(1),
        );
        assert!(world.table.iter().all(|env| env.status() == Status::Running || env.holder() != Some(0)));
    });
}

/// A parent stops a child that runs on another processor, changes its registers, and starts it again: the child runs
/// again.
#[test]
fn a_stopped_one_is_left_alone() {
    model(|| {
        let world = World::new(2);
        let child = world.run(1, 1);
        together(
            &world,
            move |world| {
                assert_eq!(world.stop(child), Ok(()));
                let mut sched = world.lock_free(child);
                assert_eq!(child.status(), Status::Stopped);
                child.touch();
                sched.start(child).unwrap();
            },
            move |world| {
                // Its time slice is over, or the processor was interrupted.
                world.lock().requeue(child);
                let same = world.lock().dequeue(1);
                if same.is_none() {
                    world.leave(child);
                    world.next(1);
                }
                while child.status() == Status::Running && !world.bells[1].rung.load(Acquire) {
                    thread::yield_now();
                }
                world.lock().requeue(child);
                world.leave(child);
            },
        );
    });
}

/// A child stops itself while its parent keeps it off, to change its exception stack: the child stays stopped.
#[test]
fn who_stops_itself_stays_stopped() {
    model(|| {
        let world = World::new(2);
        let child = world.run(1, 1);
        together(
            &world,
            move |world| world.touch_kept_off(child, 0),
            move |world| {
                _ = world.lock().stop(child);
                world.leave(child);
            },
        );
        assert_eq!((child.status(), child.holder().is_none()), (Status::Stopped, true));
        assert!(world.lock().dequeue(0).is_none());
    });
}

/// An environment that goes on running is not lost when it is kept off for a moment.
#[test]
fn who_was_kept_off_goes_on() {
    model(|| {
        let world = World::new(2);
        let child = world.run(1, 1);
        together(
            &world,
            move |world| world.touch_kept_off(child, 0),
            move |world| {
                world.lock().requeue(child);
                world.leave(child);
                assert_eq!(world.next(1).status(), Status::Running);
                world.lock().requeue(child);
                world.leave(child);
            },
        );
        assert!(world.lock().dequeue(0).is_some());
    });
}

/// An environment that is kept off is taken by no other processor, even if other environments hand over to it by name:
/// so the processor that keeps it off gets it once it has been given up.
#[test]
fn what_is_kept_off_is_reserved() {
    model(|| {
        let world = World::new(2);
        let child = world.run(1, 1);
        together(
            &world,
            move |world| {
                let mut asked = 0;
                while !world.lock().keep_off(child, 0) {
                    asked += 1;
                    assert!(asked < 3 || child.holder().is_some(), "another one took it");
                    thread::yield_now();
                }
                child.touch();
                world.lock().let_go(child);
            },
            move |world| {
                // Its processor gives it up, and a third environment hands over to it by name, again and again.
                world.lock().requeue(child);
                world.leave(child);
                for _ in 0..2 {
                    let mut sched = world.lock();
                    if sched.hand_over(child, 1) {
                        drop(sched);
                        child.touch();
                        world.lock().requeue(child);
                        world.leave(child);
                    }
                }
            },
        );
        assert!(world.lock().dequeue(0).is_some());
    });
}

/// As soon as a processor waits to keep an environment off, no other processor gets it.
#[test]
fn who_keeps_off_comes_first() {
    model(|| {
        let world = World::new(2);
        let child = &world.table[1];
        // It is in the run queue, and stays there when a processor hands over to it by name.
        world.lock().start(child).unwrap();
        assert!(world.lock().hand_over(child, 1));
        assert!(!world.lock().keep_off(child, 0), "it runs elsewhere");
        world.lock().requeue(child);
        world.leave(child);
        let mut sched = world.lock();
        assert!(!sched.hand_over(child, 1) && sched.dequeue(1).is_none(), "it is reserved");
        assert!(sched.keep_off(child, 0));
        sched.let_go(child);
        assert!(sched.dequeue(1).is_some(), "it goes on");
    });
}

/// A child and its parent end at the same time, and the child has a child of its own: that goes up to the first
/// environment, which is left. If the parent was ended with its family, none of the family is left.
#[test]
fn families_end_at_the_same_time() {
    for family in [Family::GoesUp, Family::Ends] {
        model(move || {
            let world = World::of_generations(4);
            let (parent, child, grandchild) = (world.run(1, 0), world.run(2, 1), &world.table[3]);
            // Otherwise it would be ended, because no environment is left that could start it.
            world.lock().start(grandchild).unwrap();
            together(
                &world,
                move |world| {
                    assert!(world.lock().condemn(parent, ExitStatus::DESTROYED, EnvId::NONE, family));
                    world.end_here(parent);
                },
                move |world| {
                    _ = world.lock().condemn(child, ExitStatus::SUCCESS, child.id(), Family::GoesUp);
                    world.end_here(child);
                },
            );
            // End those that the processors have not reached.
            let mut sched = world.lock();
            while let Some(found) = sched.dequeue(0) {
                if found.status() == Status::Dying {
                    drop(sched);
                    world.end_here(found);
                    sched = world.lock();
                }
            }
            if family == Family::Ends {
                assert_eq!((grandchild.status(), sched.used()), (Status::Free, 2));
            } else {
                assert_eq!((grandchild.status(), sched.used()), (Status::Running, 3));
                assert_eq!(grandchild.info().parent(), world.table[0].id());
            }
        });
    }
}

/// An environment is ended just when it is about to wait on another processor: it is buried once, by the first
/// processor that takes it, and no processor runs it meanwhile.
#[test]
fn the_condemned_end() {
    model(|| {
        let world = World::new(2);
        let child = world.run(1, 1);
        together(
            &world,
            move |world| {
                let mut sched = world.lock();
                assert!(sched.condemn(child, ExitStatus::DESTROYED, EnvId::NONE, Family::GoesUp));
                assert!(!sched.condemn(child, ExitStatus::DESTROYED, EnvId::NONE, Family::GoesUp));
                if sched.hold(child, 0) {
                    drop(sched);
                    // Too much for one slice.
                    child.touch();
                    world.lock().let_go(child);
                }
            },
            move |world| {
                world.lock().receive(child, 0, world.table[0].id(), NEVER);
                world.leave(child);
                world.slice(world.next(1));
            },
        );
        assert_eq!(child.status(), Status::Zombie);
        let mut sched = world.lock();
        assert!(sched.dequeue(0).is_none());
        sched.reap(child);
        assert_eq!(sched.used(), 1);
    });
}
