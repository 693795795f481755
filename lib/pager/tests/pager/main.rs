//! Regions, pagers and fork on a simulated machine (the crate `sim`).
//!
//! | module | what it is |
//! | --- | --- |
//! | [`host`] | the kernel, with several environments, a boot archive and page tables of real `vm::Space`s |
//! | [`op`] | the steps, and how they are chosen |
//! | [`model`] | what the steps are supposed to do: everything is copied at once |
//! | [`world`] | both side by side |
//! | [`regions`] | the table of regions by itself |
//! | [`rig`] | environments without a model, for single cases |
//! | [`tables`] | forks that share tables: single cases |
//! | [`marks`] | pagers that keep something in the page table |
//! | [`known`] | what is known of the addresses around the last fault |
//! | [`edges`] | single cases that chance would not find |
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
mod tables;
mod world;

use abi::Va;
use host::By;
use op::op;
use proptest::prelude::*;
use world::World;

/// Frames of a machine on which the steps below sometimes run out even of the last one.
const FEW: usize = 90;

/// What is private decides which tables are shared: those of every level, or of the lower ones only.
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

    /// The same, with forks that share tables: results, regions, contents, rights and faults agree.
    #[test]
    fn agrees_with_that_model_if_tables_are_shared(
        private in private(),
        steps in prop::collection::vec(op(), 1..100),
    ) {
        let mut world = World::with_tables(private);
        steps.iter().for_each(|op| world.step(op));
        world.end();
    }

    /// For want of any of the frames that it takes, a step fails, and no program sees a difference; with
    /// that frame it succeeds.
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
