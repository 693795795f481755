//! Policies against a model.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`model`] | random operations |
//! | [`cases`] | single cases |

mod cases;
mod model;

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
