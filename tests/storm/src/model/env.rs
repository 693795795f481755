//! An environment, as the contract has it.

use super::space::Space;
use crate::place::CODE;
use crate::puppet::GO;
use abi::{Registers, Status};
use alloc::vec::Vec;
use core::ops::Range;

/// An environment, or a slot for one.
pub struct Env {
    pub id: u32,
    pub status: Status,
    pub parent: u32,
    /// The parent is not the one that made it.
    pub adopted: bool,
    /// It ends, and takes all that descend from it with it.
    pub takes_all: bool,
    pub exit: u8,
    pub space: Option<Space>,
    /// The registered exception stack.
    pub stack: Range<u64>,
    /// Slots of the children, the ended ones in the order of their ends, latest first.
    pub children: Vec<usize>,
    /// For whose end or message it waits; 0: anybody's.
    pub awaits: u32,
    /// Where it wants a page.
    pub receive_at: u64,
    /// Results of the call that it is in.
    pub results: (u64, u64),
    pub context: Context,
}

/// What an environment does when it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// It faults: nothing is mapped where it is.
    Nowhere,
    /// It is a puppet with its corner here.
    Puppet(u64, At),
}

/// Where a puppet is in its loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    Start,
    Parked,
    InCall,
}

impl Default for Env {
    fn default() -> Env {
        Env {
            id: 0,
            status: Status::Free,
            parent: 0,
            adopted: false,
            takes_all: false,
            exit: 0,
            space: None,
            stack: 0..0,
            children: Vec::new(),
            awaits: 0,
            receive_at: 0,
            results: (0, 0),
            context: Context::Nowhere,
        }
    }
}

impl Env {
    pub fn is_living(&self) -> bool {
        !matches!(self.status, Status::Free | Status::Dying | Status::Zombie)
    }
}

impl Context {
    /// What comes of an environment that starts with these registers.
    pub fn of(registers: &Registers) -> Context {
        if registers.rip == CODE && registers.r14 == GO {
            Context::Puppet(registers.r15, At::Start)
        } else {
            Context::Nowhere
        }
    }
}
