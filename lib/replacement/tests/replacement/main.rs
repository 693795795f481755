//! Policies on traces, and against a model.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`traces`] | the accesses of seven programs, made from seeds |
//! | [`machine`] | a program with a pager that feeds a policy as hardware does: by faults and A bits |
//! | [`optimal`] | MIN and LRU, which see more than a pager does |
//! | [`figures`] | the page-ins of all policies, as recorded, and the aims |
//! | [`model`] | random operations |
//! | [`cases`] | single cases |
//! | [`last_in`] | a policy for a program that knows what it does |

mod cases;
mod figures;
mod last_in;
mod machine;
mod model;
mod optimal;
mod traces;

use replacement::{Clock, Lirs, Policy, S3Fifo, TwoQueues, clock, lirs, s3_fifo, two_queues};

/// The policies of the crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Clock,
    TwoQueues,
    S3Fifo,
    Lirs,
}

impl Name {
    const ALL: [Name; 4] = [Name::Clock, Name::TwoQueues, Name::S3Fifo, Name::Lirs];

    /// The number of nodes that the policy needs for this many frames.
    fn nodes(self, frames: usize) -> usize {
        match self {
            Name::Clock => Clock::nodes(frames),
            Name::TwoQueues => TwoQueues::nodes(frames),
            Name::S3Fifo => S3Fifo::nodes(frames),
            Name::Lirs => Lirs::nodes(frames),
        }
    }

    /// Lends this many nodes to a new policy.
    fn with<T>(self, nodes: usize, f: impl FnOnce(&mut dyn Policy) -> T) -> T {
        match self {
            Name::Clock => f(&mut Clock::new(&mut vec![clock::Node::EMPTY; nodes])),
            Name::TwoQueues => f(&mut TwoQueues::new(&mut vec![two_queues::Node::EMPTY; nodes])),
            Name::S3Fifo => f(&mut S3Fifo::new(&mut vec![s3_fifo::Node::EMPTY; nodes])),
            Name::Lirs => f(&mut Lirs::new(&mut vec![lirs::Node::EMPTY; nodes])),
        }
    }
}
