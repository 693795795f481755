//! Page maps and their model side by side: every step is made in both, then all is compared.

use crate::machine::{self, KERNEL_FRAMES, Sim, free_frames, processor, refs};
use crate::model::{Held, Model, PageId, Slot};
use crate::processor::Access;
use abi::layout::{USER_LIMIT, uvpt};
use abi::{Error, Frame, Perms, Pte, Va};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering::SeqCst;
use vm::{Machine, Memory, Space};

/// Address spaces in the game.
pub const SPACES: usize = 3;

/// Frames that can be handed out at the start.
pub const FREE: usize = machine::FRAMES - KERNEL_FRAMES;

/// Pages in the game: neighbours, and pages that share tables down to each of the levels.
pub const PAGES: [Va; 9] = [
    Va(0),
    Va(0x1000),
    Va(0x1f_f000),
    Va(0x20_0000),
    Va(0x3fff_f000),
    Va(0x4000_0000),
    Va(0x7f_ffff_f000),
    Va(0x80_0000_0000),
    Va(USER_LIMIT.0 - 0x1000),
];

/// One step. Numbers of spaces and pages are taken modulo how many there are.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Alloc { space: usize, va: Va, perms: Perms },
    Share { from: usize, source: Va, to: usize, va: Va, perms: Perms },
    Protect { space: usize, va: Va, perms: Perms },
    Unmap { space: usize, va: Va },
    Mark { space: usize, va: Va, word: u64 },
    Own { space: usize, va: Va },
    /// Give everything back, so many entries at a time, and begin anew.
    TearDown { space: usize, budget: u32 },
    /// The processor goes on in this space.
    Switch { space: usize },
    Read { va: Va, word: usize },
    Write { va: Va, word: usize, value: u64 },
    Fetch { va: Va },
    /// Read the entry of `va` in the self map, and try to write and to execute it.
    Uvpt { va: Va, level: u32 },
}

/// What a step gives back: a call's result, or what an access met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Call(Result<bool, Error>),
    Value(u64),
    Fault,
}

fn done(result: Result<(), Error>) -> Outcome {
    Outcome::Call(result.map(|()| false))
}

/// The two of them.
pub struct World {
    pub memory: Memory<Sim>,
    pub template: Frame,
    pub spaces: Vec<Space<Sim>>,
    pub model: Model,
    /// The space that the processor uses.
    current: usize,
}

impl World {
    /// Empty spaces on a machine with this many free frames.
    pub fn new(free: usize) -> World {
        let memory = machine::start(free);
        let (template, _) = machine::template();
        let new = |_| Space::new(&memory, template).expect("room for the top-level tables");
        let spaces: Vec<_> = (0..SPACES).map(new).collect();
        let mut world = World { memory, template, spaces, model: Model::new(SPACES, free), current: 0 };
        world.switch(0);
        world
    }

    fn switch(&mut self, space: usize) {
        self.current = space;
        let root = self.spaces[space].root();
        processor(|processor| processor.load(Some(root)));
    }

    /// Make a step in both, and compare everything.
    pub fn step(&mut self, op: Op) {
        let (before, expected) = (self.model.clone(), self.expect(op));
        if expected != Outcome::Call(Err(Error::NoMemory(0))) {
            self.fail_at_every_allocation(op, &before);
        }
        assert_eq!(self.act(op), expected, "{op:x?}");
        self.compare();
    }

    /// Make the step with too little memory, for each amount of memory that is too little.
    fn fail_at_every_allocation(&mut self, op: Op, before: &Model) {
        if !matches!(op, Op::Alloc { .. } | Op::Share { .. } | Op::Mark { .. } | Op::Own { .. }) {
            return;
        }
        let after = std::mem::replace(&mut self.model, before.clone());
        let all: Vec<_> = std::iter::from_fn(|| self.memory.alloc().ok()).collect();
        assert_eq!(free_frames(), 0);
        for (left, frame) in all.iter().rev().enumerate() {
            let short = before.with_frames_less(all.len() - left);
            if short.clone().call(op) != Some(Outcome::Call(Err(Error::NoMemory(0)))) {
                break;
            }
            let outcome = self.act(op);
            assert_eq!(outcome, Outcome::Call(Err(Error::NoMemory(0))), "{op:x?}, {left} frames left");
            self.model = short;
            self.compare();
            self.memory.release(*frame);
        }
        all.iter().filter(|frame| refs(**frame) == 1).for_each(|_| {});
        self.model = after;
        todo!()
    }
}
