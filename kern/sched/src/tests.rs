//! Every order of events, for two or three processors.

use super::*;
use abi::ExitStatus;
use abi::call::NO_PAGE;
use core::sync::atomic::Ordering::{Acquire, Release};
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex, MutexGuard, Notify};
use loom::thread;
use std::array;

/// All orders in which a processor is overtaken at most twice where it could have gone on: more would take
/// hours, and finds no more.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(f);
}

/// What a processor is told by others.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    sleeper: Notify,
}

struct Env {
    slot: usize,
    links: Links<Env>,
    info: EnvInfo,
    word: AtomicU64,
    bells: &'static [Bell; 2],
    /// Only the processor that holds it is in here.
    registers: UnsafeCell<()>,
    /// Only who ends it, or sends it a page, is in here.
    space: UnsafeCell<()>,
}

impl Node for Env {
    fn links(&self) -> &Links<Env> {
        &self.links
    }

    fn slot(&self) -> usize {
        self.slot
    }

    fn info(&self) -> &EnvInfo {
        &self.info
    }

    fn word(&self) -> &AtomicU64 {
        &self.word
    }

    fn interrupt(&self, processor: u32) {
        let bell = &self.bells[processor as usize];
        bell.rung.store(true, Release);
        bell.sleeper.notify();
    }
}

impl Env {
    /// Something is done to what only its holder may touch.
    fn touch(&self) {
        self.registers.with_mut(|registers| assert!(!registers.is_null()));
    }

    /// A sender puts a page into its page map, or who ends it takes that apart.
    fn map(&self) {
        self.space.with_mut(|space| assert!(!space.is_null()));
    }
}

struct World {
    sched: Mutex<Sched<Env>>,
    bells: &'static [Bell; 2],
    table: &'static [Env],
}

impl World {
    /// So many environments, the others children of the first. They are stopped.
    fn new(count: usize) -> Arc<World> {
        let bells: &'static [Bell; 2] = Box::leak(Box::new(array::from_fn(|_| Bell::default())));
        let table = World::table(count, bells);
        let mut sched = Sched::new();
        sched.init(table);
        let first = sched.create(None);
        (1..count).for_each(|_| assert!(sched.create(first).is_some()));
        Arc::new(World { sched: Mutex::new(sched), bells, table })
    }

    fn table(count: usize, bells: &'static [Bell; 2]) -> &'static [Env] {
        let env = |slot| Env {
            slot,
            links: Links::default(),
            info: EnvInfo::default(),
            word: AtomicU64::new(0),
            bells,
            registers: UnsafeCell::new(()),
            space: UnsafeCell::new(()),
        };
        Box::leak((0..count).map(env).collect())
    }

    /// So many environments, each the parent of the next one. They are stopped.
    fn of_generations(count: usize) -> Arc<World> {
        let world = World::new(1);
        let table = World::table(count, world.bells);
        let mut sched = Sched::new();
        sched.init(table);
        (0..count).fold(None, |parent, _| sched.create(parent));
        Arc::new(World { sched: Mutex::new(sched), bells: world.bells, table })
    }

    /// All that is left to do for one that is dying and held here; then it is given back.
    fn end_here(&self, env: &'static Env) {
        env.touch();
        loop {
            let mut sched = self.lock();
            if !sched.part(env) {
                _ = sched.bury(env);
                break sched.let_go(env);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sched<Env>> {
        self.sched.lock().unwrap()
    }

    /// A stopped environment begins to run here.
    fn run(&self, slot: usize, processor: u32) -> &'static Env {
        let mut sched = self.lock();
        sched.set_status(&self.table[slot], Status::Runnable);
        assert!(sched.hand_over(&self.table[slot], processor));
        &self.table[slot]
    }

    /// The processor saves what is in its registers, and gives up the environment.
    fn leave(&self, env: &'static Env) {
        env.touch();
        self.give_back(env);
    }

    fn give_back(&self, env: &'static Env) {
        if give_back(env) {
            self.lock().offer(env);
        }
    }

    /// A processor that has nothing to do takes what comes. If it is told of nothing, it sleeps: in a test
    /// in which nobody else is left, that is a deadlock.
    fn next(&self, processor: u32) -> &'static Env {
        loop {
            let mut sched = self.lock();
            sched.look(processor);
            if let Some(env) = sched.dequeue(processor) {
                drop(sched);
                env.touch();
                return env;
            }
            sched.rest(processor);
            drop(sched);
            self.bells[processor as usize].sleeper.wait();
        }
    }

    /// A slice of ending, by the processor that holds it.
    fn slice(&self, env: &'static Env) {
        env.touch();
        if !self.lock().is_claimed(env) {
            env.map();
            let mut sched = self.lock();
            assert!(sched.fail_receivers(env, |_receiver| ()));
            assert!(sched.bury(env).is_none(), "nobody waits here");
        }
        self.lock().let_go(env);
    }

    /// A processor keeps an environment off the others, does something to it, and lets it go.
    fn touch_kept_off(&self, env: &'static Env, processor: u32) {
        while !self.lock().keep_off(env, processor) {
            thread::yield_now();
        }
        env.touch();
        self.lock().let_go(env);
    }

    /// The scheduler, locked, when no processor holds a stopped environment.
    fn lock_free(&self, env: &Env) -> MutexGuard<'_, Sched<Env>> {
        loop {
            let sched = self.lock();
            if env.status() != Status::Stopped || env.holder().is_none() {
                return sched;
            }
            drop(sched);
            thread::yield_now();
        }
    }

    /// What a parent does to a child that may run elsewhere.
    fn stop(&self, env: &'static Env) -> Result<(), Status> {
        while self.lock().stop(env)? {
            drop(self.lock_free(env));
        }
        Ok(())
    }
}

/// Two processors, each with what it does.
fn together(world: &Arc<World>, first: impl FnOnce(&World) + 'static, second: impl FnOnce(&World) + 'static) {
    let other = Arc::clone(world);
    let thread = thread::spawn(move || second(&other));
    first(world);
    thread.join().unwrap();
}

/// Two look for work at once, leave what they found, and look again: none has what the other has. (`touch`
/// would see it.)
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

/// One goes over from an environment to another, and stays there; the first one is for the idle processor.
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

/// A receiver waits, and is given up, while its message comes from another processor, which goes on with its own: it
/// wakes up, on the processor that it left.
#[test]
fn no_message_is_lost() {
    model(|| {
        let world = World::new(2);
        let receiver = world.run(1, 0);
        together(
            &world,
            move |world| {
                world.lock().receive(receiver, 7, world.table[0].id());
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
                    // It runs here first, and its turn is over.
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

/// A parent stops a child that runs elsewhere, changes its registers, and starts it again. It runs again.
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
                // Its turn is over, or it is told.
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

/// The same for the stack of its upcall, for which it is only kept off its processor. Just then it stops itself: it
/// stays stopped.
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

/// One that goes on running is not lost either when it is kept off for a moment.
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

/// One that is kept off its processor is taken by no other, whoever wants it to run by name: so who keeps it off gets it
/// when it has been given up.
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
                // Its processor gives it up, and a third environment lets it run by name, again and again.
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

/// From the moment that one is to be kept off, nobody else gets it.
#[test]
fn who_keeps_off_comes_first() {
    model(|| {
        let world = World::new(2);
        let child = &world.table[1];
        // It is in the queue, and stays there when it is run by name.
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

/// A child and its parent end at the same time, the child with a child of its own: that goes up to the first, which is
/// left. If the parent was ended with its family, nobody is left of that.
#[test]
fn families_end_at_the_same_time() {
    for family in [Family::GoesUp, Family::Ends] {
        model(move || {
            let world = World::of_generations(4);
            let (parent, child, grandchild) = (world.run(1, 0), world.run(2, 1), &world.table[3]);
            // So that it is not ended for want of somebody who could start it.
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
            // What the processors have not come to.
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

/// Somebody ends an environment that is just about to wait elsewhere: it is buried once, by whoever comes to it,
/// and nobody who runs it has it meanwhile.
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
                world.lock().receive(child, 0, world.table[0].id());
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

/// A receiver is ended while a page is handed to it: its page map stays until that is done.
#[test]
fn a_page_map_stays_while_a_page_comes() {
    model(|| {
        let world = World::new(2);
        let receiver = world.run(1, 1);
        world.lock().receive(receiver, 7, EnvId::ANY);
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

/// Whom a receiver waits for ends while it begins to wait: it is told.
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
                let waits = lives && sched.receive(receiver, 0, sender.id());
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
                // Or the other one found it.
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
    /// A receiver waits, and no processor holds it.
    fn listen(&self, slot: usize, from: EnvId) -> &'static Env {
        let env = self.run(slot, 0);
        assert!(self.lock().receive(env, NO_PAGE, from));
        self.leave(env);
        env
    }

    /// A place where loom lets others come first. (That it looks at a word just before it exchanges that hides from it
    /// that somebody else has looked before, too.)
    fn meet(&self) {
        drop(self.lock());
    }

    /// Question and answer between what runs here and a receiver, without the lock. `false`: the caller goes on.
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
            self.lock().receive(me, NO_PAGE, from);
            self.give_back(me);
        }
        true
    }
}

/// Two send to one receiver at once, each from its processor and without the lock: it runs where it was taken, once.
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

/// A message without the lock, and one with a page, which takes time: only one of them comes.
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

/// A receiver is ended while somebody sends to it without the lock: it gets the message or not, and it ends once.
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
                    // It runs here until it hears of its end.
                    while !world.bells[0].rung.load(Acquire) {
                        thread::yield_now();
                    }
                    assert_eq!(receiver.status(), Status::Dying);
                    world.leave(receiver);
                    world.slice(world.next(0));
                    // That was whom the sender waited for.
                    assert_eq!(world.next(0).slot, 0);
                } else {
                    world.slice(world.next(0));
                }
            },
            move |world| {
                assert!(world.lock().condemn(receiver, ExitStatus::DESTROYED, EnvId::NONE, Family::GoesUp))
            },
        );
        assert_eq!((receiver.status(), sender.status()), (Status::Zombie, Status::Running));
    });
}

/// The sender is ended, stopped, or kept off while it goes over to the receiver without the lock: what was
/// done to it is done, and the receiver runs.
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
    // Its call is done, so it waits all the same, and who wanted to stop it hears of that.
    let stop = |world: &World, sender| assert_eq!(world.stop(sender), Err(Status::Receiving));
    check(stop, |_, sender| assert_eq!(sender.status(), Status::Receiving));
    let keep_off = |world: &World, sender: &'static Env| world.touch_kept_off(sender, 1);
    check(keep_off, |_, sender| assert_eq!(sender.status(), Status::Receiving));
}

/// The slot of a receiver gets another owner while somebody sends to the one that had it: the new one is not taken.
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
                // Nobody wants it that can: it is gone at once.
                let mut sched = world.lock();
                if sched.condemn(receiver, ExitStatus::DESTROYED, EnvId::NONE, Family::GoesUp)
                    && sched.hold(receiver, 1)
                {
                    drop(sched);
                    world.slice(receiver);
                    let mut sched = world.lock();
                    sched.reap(receiver);
                    assert!(sched.create(Some(sender)).is_some_and(|env| core::ptr::eq(env, receiver)));
                    drop(sched);
                    let receiver = world.run(1, 1);
                    assert!(world.lock().receive(receiver, NO_PAGE, EnvId::ANY));
                    world.leave(receiver);
                }
            },
        );
    });
}

/// Three processors: two send to one receiver, which answers the one that it got a message from; a third processor ends
/// that receiver. Nobody waits for ever, and nobody runs twice.
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
            // It goes on, or it waits for the one that is ending.
            let waits = sender.status() == Status::Receiving;
            assert!(sender.status() == Status::Running && runs || waits && !runs);
        }
    });
}

fn is_ending(env: &Env) -> bool {
    env.status() == Status::Dying
}
