//! Page maps on a simulated machine (the crate `sim`), against a model.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`op`] | the steps, and how they are chosen |
//! | [`model`] | what the steps are supposed to do |
//! | [`world`] | both side by side |
//! | [`case`] | what single cases have in common |
//! | [`edges`] | single cases that chance would not find: frames, pages, windows and the self map |
//! | [`shared`] | single cases about tables that two spaces have |
//! | [`build`] | the kernel's own page tables |
//! | [`run`] | runs of pages and tables |
//! | [`processors`] | frames taken and freed by several processors at once |
//! | [`sketch`] | page maps with all that is unimportant left out |
//! | [`search`] | every short sequence of operations on shared tables, and why each part of their rule is there |
//!
//! Programs reach memory only through the processor, which remembers what it has seen. So an
//! `invalidate` that is missing in `vm` shows as a program that reads what it should not, and the
//! test prints the shortest sequence of steps that leads there. Half of the time that processor is another one than
//! the one that edits, and a flush is all that it hears of.

mod build;
mod case;
mod edges;
mod model;
mod op;
mod processors;
mod run;
mod search;
mod shared;
mod sketch;
mod world;

use op::{SPACES, op};
use proptest::prelude::*;
use world::{ALL, World};

/// Frames of a machine on which the steps below often run out.
const FEW: usize = SPACES + 16;

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, failure_persistence: None, ..Default::default() })]

    /// Results, entries, contents, books and every access agree with the model after every step.
    #[test]
    fn agrees_with_the_model(elsewhere: bool, steps in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new(ALL);
        sim::machine::run_elsewhere(elsewhere);
        steps.into_iter().for_each(|op| world.step(op));
        world.end();
    }

    /// For want of any of the frames that it takes, a step fails, changes nothing and loses
    /// nothing; with that frame it succeeds.
    #[test]
    fn runs_out_of_memory_without_harm(elsewhere: bool, steps in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new(FEW);
        sim::machine::run_elsewhere(elsewhere);
        steps.into_iter().for_each(|op| world.starve_and_step(op));
        world.end();
    }
}
