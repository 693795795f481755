//! An environment in the model.

use super::page_map::PageMap;
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
    /// Whether the parent is not the environment that created it.
    pub adopted: bool,
    /// Whether its end also ends all its descendants.
    pub takes_all: bool,
    pub exit: u8,
    pub map: Option<PageMap>,
    /// The registered exception stack.
    pub stack: Range<u64>,
    /// Slots of the children; ended children in the order of their ends, latest first.
    pub children: Vec<usize>,
    /// The environment for whose end or message it waits; 0: any.
    pub awaits: u32,
    /// Where it receives a page.
    pub receive_at: u64,
    /// Results of the call in which it is.
    pub results: (u64, u64),
    pub context: Context,
}

/// The behaviour of an environment when it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// Faults, because nothing is mapped at its instruction pointer.
    Nowhere,
    /// A puppet, with the address of its corner.
    Puppet(u64, At),
}

/// The position of a puppet in its loop.
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
            map: None,
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
        self.status.is_alive()
    }
}

impl Context {
    /// The behaviour of an environment that starts with these registers.
    pub fn of(registers: &Registers) -> Context {
        if registers.rip == CODE && registers.r14 == GO {
            Context::Puppet(registers.r15, At::Start)
        } else {
            Context::Nowhere
        }
    }
}
