//! Random operations, and a model that is as simple as possible: after each operation, scheduler and model agree.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`op`] | the operations, and how they are chosen |
//! | [`env`] | environments as `sched` sees them |
//! | [`world`] | the scheduler and the model side by side |
//! | [`run`] | each operation, on both |
//! | [`compare`] | what must hold between operations |

mod compare;
mod env;
mod op;
mod run;
mod world;

use abi::{EnvId, ExitStatus, Status};
use op::{SLOTS, ops};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence::Direct;
use sched::{Family, Node};
use world::World;

/// The file of seeds of runs that failed once; they run first.
const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/random.proptest-regressions");

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: Some(Box::new(Direct(SEEDS))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_model_agrees(ops in ops()) {
        let mut world = World::new(SLOTS);
        for op in ops {
            world.run(op);
            world.compare();
        }
    }
}

/// Slots are never used up: after the last generation comes the first.
#[test]
fn ids_come_round() {
    let World { mut sched, .. } = World::new(2);
    let first = sched.create(None, 0).expect("the first");
    for n in 0..EnvId::MAX_GENERATION + 3 {
        let env = sched.create(Some(first), 0).expect("a slot that is free again");
        assert_eq!(env.id(), EnvId::new(n % EnvId::MAX_GENERATION + 1, 1));
        assert!(sched.condemn(env, ExitStatus::SUCCESS, env.id(), Family::GoesUp));
        assert!(sched.dequeue(0).is_some_and(|next| core::ptr::eq(next, env)));
        assert!(sched.bury(env).is_none());
        sched.reap(env);
        sched.let_go(env);
    }
}

/// A thousand receivers, of which every third is late: one call wakes a few, and the next ones go on.
#[test]
fn many_deadlines() {
    const MANY: usize = 1000;
    let World { mut sched, table, .. } = World::new(MANY);
    let first = sched.create(None, 0).expect("the first");
    let late = |slot: usize| slot.is_multiple_of(3);
    for env in &table[1..] {
        sched.create(Some(first), 0).expect("a slot");
        sched.start(env).expect("it is stopped");
        assert!(sched.dequeue(0).is_some_and(|next| core::ptr::eq(next, env)));
        assert!(sched.receive(env, 0, EnvId::ANY, if late(env.slot) { 10 } else { 20 }));
        assert!(!sched::give_back(env));
    }
    let ready = || table[1..].iter().filter(|env| env.status() == Status::Runnable).count();
    assert!(!sched.expire(9) && ready() == 0, "too early");
    let mut most = 0;
    for call in 0..100 {
        let before = ready();
        _ = sched.expire(10 + call / 50);
        most = most.max(ready() - before);
        assert!(sched.has_deadlines());
    }
    assert!((1..100).contains(&most), "{most} at once");
    assert!(table[1..].iter().all(|env| late(env.slot) == (env.status() == Status::Runnable)));
    (0..100).for_each(|_| _ = sched.expire(20));
    assert_eq!(ready(), MANY - 1);
    assert!(!sched.has_deadlines());
}
