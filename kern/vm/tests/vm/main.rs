//! Page maps on a simulated machine (the crate `sim`), against a model.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`op`] | the steps, and how they are chosen |
//! | [`model`] | the expected effect of the steps |
//! | [`world`] | both side by side |
//! | [`case`] | the common part of single cases |
//! | [`edges`] | single cases that random tests would not find: frames, pages, windows and the self map |
//! | [`shared`] | single cases of tables that two page maps share |
//! | [`removed`] | tables that are removed, against their pages one by one |
//! | [`sealed`] | single cases of tables that are protected against writes |
//! | [`build`] | the kernel's own page tables |
//! | [`run`] | runs of pages and tables: how far they get |
//! | [`many`] | runs of pages, against the same pages one by one |
//! | [`stops`] | runs of pages and tables that end in the middle |
//! | [`processors`] | frames taken and freed by several processors at once |
//! | [`sketch`] | simplified page maps |
//! | [`search`] | every short sequence of operations on shared tables, and the reason for each part of their rule |
//!
//! Programs reach memory only through the processor, which caches translations. So an `invalidate` that is missing in
//! `vm` shows as a program that reads a stale page, and the test prints the shortest sequence of steps that leads
//! there. Half of the time the programs run on another processor than the one that edits, and only a TLB shootdown
//! reaches it.

mod build;
mod case;
mod edges;
mod many;
mod model;
mod op;
mod processors;
mod removed;
mod run;
mod sealed;
mod search;
mod shared;
mod sketch;
mod stops;
mod world;

use op::{MAPS, op};
use proptest::prelude::*;
use world::{ALL, World};

/// Number of frames of a machine on which the steps below often run out.
const FEW: usize = MAPS + 16;

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, failure_persistence: None, ..Default::default() })]

    /// Results, entries, contents, metadata and every access agree with the model after every step.
    #[test]
    fn agrees_with_the_model(elsewhere: bool, steps in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new(ALL);
        sim::machine::run_elsewhere(elsewhere);
        steps.into_iter().for_each(|op| world.step(op));
        world.end();
    }

    /// Without any one of the frames that it takes, a step fails, changes nothing and loses nothing; with that frame
    /// it succeeds.
    #[test]
    fn runs_out_of_memory_without_harm(elsewhere: bool, steps in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new(FEW);
        sim::machine::run_elsewhere(elsewhere);
        steps.into_iter().for_each(|op| world.starve_and_step(op));
        world.end();
    }
}
