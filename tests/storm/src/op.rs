//! One operation.

use abi::{Call, PageOp, Va};
use core::fmt;

/// Names for environments in operations: children of the hostile program, then children of its puppets. A name stands
/// for the id that was last assigned to it.
pub const NAMES: usize = 12;
/// How many of the names are for children of the hostile program itself.
pub const CHILDREN: usize = 8;
/// The name of the hostile program.
pub const ME: u8 = NAMES as u8;

/// The caller of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The hostile program.
    Me,
    /// The child with this name; if it has ended, a new one is made a puppet.
    Puppet(u8),
}

/// An argument of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arg {
    /// A literal value.
    Word(u64),
    /// The id behind a name.
    Env(u8),
}

/// A page operation with names in it, for `page_ops`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // as in `PageOp`
pub struct Item {
    pub call: u32,
    pub count: u32,
    pub source_env: Arg,
    pub env: Arg,
    pub source: u64,
    pub va: u64,
    pub arg: u64,
}

/// The limit of items in a batch.
pub const ITEMS: usize = 4;

/// The action of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A call. Calls on a run of pages are repeated until the run is done or there is an error.
    Call(u64, [Arg; 6]),
    /// A page call on the caller's own memory, of which a page is accessed before and after.
    Touching(u64, [Arg; 6], u64),
    /// `page_ops`, to its end or an error.
    Batch([Item; ITEMS], usize),
    /// `page_ops` with this many of the operations that an earlier batch has left on the desk.
    Again(usize),
    /// `exofork` under this name. The hostile program does so only if no living environment has the name; a child that
    /// has ended is reaped.
    Exofork(u8),
    /// Makes the child with this name a puppet; if it has ended, a new one.
    Animate(u8),
    /// Gives the child with this name a page as its exception stack.
    Pin(u8, u64),
    /// Writes a word to memory.
    Poke(u64, u64),
    /// Reads a word.
    Peek(u64),
}

/// One operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Op {
    /// The caller.
    pub by: By,
    /// The action.
    pub what: What,
}

impl Item {
    /// The operation with ids instead of names.
    pub fn resolve(&self, id: impl Fn(Arg) -> u64) -> PageOp {
        PageOp {
            call: self.call,
            count: self.count,
            source_env: abi::EnvId(id(self.source_env) as u32),
            env: abi::EnvId(id(self.env) as u32),
            source: Va(self.source),
            va: Va(self.va),
            arg: self.arg,
        }
    }
}

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Arg::Env(ME) => f.write_str("me"),
            Arg::Env(name) => write!(f, "env{name}"),
            Arg::Word(word) if word < 10 => write!(f, "{word}"),
            Arg::Word(word) => write!(f, "{word:#x}"),
        }
    }
}

/// The number of arguments of a call.
fn arguments(number: u64) -> usize {
    Call::from_number(number).map_or(6, |call| call.arguments().len())
}

fn name(number: u64) -> &'static str {
    Call::from_number(number).map_or("?", Call::name)
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Item { call, count, source_env, env, source, va, arg } = self;
        let name = name(u64::from(*call));
        match Call::from_number((*call).into()) {
            Some(Call::Map | Call::Copy | Call::ShareTables) => {
                write!(f, "{name}({source_env}, {source:#x}, {env}, {va:#x}, {count:#x}, {arg:#x})")
            }
            _ => write!(f, "{name}({env}, {va:#x}, {count:#x}, {arg:#x})"),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if let By::Puppet(name) = self.by {
            write!(f, "env{name}: ")?;
        }
        match &self.what {
            What::Call(number, args) | What::Touching(number, args, _) => {
                if let What::Touching(_, _, page) = self.what {
                    write!(f, "touching {page:#x} ")?;
                }
                write!(f, "{}(", name(*number))?;
                if Call::from_number(*number).is_none() {
                    write!(f, "{number:#x}: ")?;
                }
                for (index, arg) in args[..arguments(*number)].iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{arg}")?;
                }
                f.write_str(")")
            }
            What::Batch(items, len) => {
                f.write_str("page_ops[")?;
                for (index, item) in items[..*len].iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{item}")?;
                }
                f.write_str("]")
            }
            What::Again(len) => write!(f, "page_ops[{len} again]"),
            What::Exofork(name) => write!(f, "env{name} = exofork()"),
            What::Animate(name) => write!(f, "animate(env{name})"),
            What::Pin(name, page) => write!(f, "pin(env{name}, {page:#x})"),
            What::Poke(at, word) => write!(f, "poke({at:#x}, {word:#x})"),
            What::Peek(at) => write!(f, "peek({at:#x})"),
        }
    }
}
