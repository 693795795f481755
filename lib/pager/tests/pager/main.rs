//! Regions, pagers and fork on a simulated machine (the crate `sim`).
//!
//! | module | what it is |
//! | --- | --- |
//! | [`host`] | the kernel, with several environments, a boot archive and page tables of real `vm::PageMap`s |
//! | [`op`] | the steps, and how they are chosen |
//! | [`model`] | the expected effect of the steps: everything is copied at once |
//! | [`world`] | both side by side |
//! | [`regions`] | the table of regions by itself |
//! | [`rig`] | environments without a model, for single cases |
//! | [`tables`] | forks that share tables: single cases |
//! | [`marks`] | pagers that keep data in the page table |
//! | [`known`] | the facts about the addresses around the last fault |
//! | [`runs`] | runs of adjacent entries |
//! | [`sealing`] | memory that is protected by whole tables |
//! | [`streams`] | pages that are touched one after the other |
//! | [`edges`] | single cases that random tests would not find |
//!
//! Programs reach memory only through the processor with its TLB, and a fault goes to
//! [`pager::resolve`], as in libos.

mod edges;
mod host;
mod known;
mod marks;
mod model;
mod op;
mod regions;
mod rig;
mod runs;
mod sealing;
mod streams;
mod tables;
mod world;

use abi::{Perms, Va};
use host::By;
use op::{Cover, Kind, Op, op};
use proptest::prelude::*;
use sim::processor::Access;
use world::World;

/// Number of frames of a machine on which the steps below sometimes run out even of the last one.
const FEW: usize = 90;

/// The private span decides which tables are shared: those of every level, or of the lower ones only.
fn private() -> impl Strategy<Value = Option<Va>> {
    prop::sample::select(vec![None, Some(rig::OTHER_GIB), Some(rig::SAME_GIB)])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    /// Results, regions, contents, faults and the number of frames agree with the model after every step.
    #[test]
    fn agrees_with_a_model_that_copies_everything(steps in prop::collection::vec(op(), 1..100)) {
        let mut world = World::new();
        steps.iter().for_each(|op| world.step(op));
        world.end();
    }

    /// With forks that share tables: results, regions, contents, rights and faults agree with the model.
    #[test]
    fn agrees_with_that_model_if_tables_are_shared(
        private in private(),
        steps in prop::collection::vec(op(), 1..100),
    ) {
        let mut world = World::with_tables(private);
        steps.iter().for_each(|op| world.step(op));
        world.end();
    }

    /// Without any one of the frames that it takes, a step fails, and no program sees a difference; with that frame it
    /// succeeds.
    #[test]
    fn runs_out_of_memory_without_harm(
        by in prop_oneof![Just(By::Pages), private().prop_map(By::Tables)],
        steps in prop::collection::vec(op(), 1..60),
    ) {
        let mut world = World::small(FEW, by);
        steps.iter().for_each(|op| world.starve_and_step(op));
        world.end();
    }
}

/// A shared page that this environment got read-only cannot become writable. Pages above it must not keep rights that
/// their region has lost.
#[test]
fn protect_goes_on_behind_a_page_that_is_refused() {
    let steps = [
        Op::Add { range: Va(0x205000)..Va(0x207000), kind: Kind::Shared, rights: Perms::READ },
        Op::Fork,
        Op::Exit,
        Op::Add { range: Va(0x207000)..Va(0x20a000), kind: Kind::Zeros, rights: Perms::EXEC },
        Op::Touch { va: Va(0x207000), access: Access::Read, byte: 0 },
        Op::Protect { range: Va(0x205000)..Va(0x208000), rights: Perms::WRITE, cover: Cover::All },
    ];
    let worlds: [fn() -> World; 2] = [World::new, || World::with_tables(None)];
    for make in worlds {
        let mut world = make();
        steps.iter().for_each(|op| world.step(op));
        world.end();
    }
}
