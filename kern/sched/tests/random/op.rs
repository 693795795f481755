//! The operations, and how they are chosen.

use proptest::prelude::*;

pub const SLOTS: usize = 6;
pub const PROCESSORS: u32 = 2;

/// Operations name environments by slot, and processors by number.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// Makes a child of this environment, and starts it or not.
    Create(usize, bool),
    Start(usize),
    Stop(usize),
    /// A processor puts its environment at the end of the run queue, and takes the next one.
    Switch(u32),
    /// A processor switches from its environment to this one.
    HandOver(u32, usize),
    Wait(u32, usize),
    Read(u32),
    Input,
    /// The environment that runs on a processor receives from this one, or from anyone; until a number of ticks
    /// has passed, or without a deadline.
    Receive(u32, Option<usize>, Option<u64>),
    /// Something happens to the device of this environment, which interrupts if it may.
    Interrupt(usize),
    /// A number of ticks passes.
    Expire(u64),
    /// A sender claims this environment, and a number of ticks passes before the message is there, or not.
    SendLate(usize, usize, u64, bool),
    Send(usize, usize),
    /// The environment that runs on a processor sends to this one without the lock, and waits for its answer alone, or
    /// for anyone.
    Exchange(u32, usize, bool),
    /// A processor keeps this environment off, and lets it go.
    KeepOff(u32, usize),
    /// Ends this environment, perhaps with its family.
    Condemn(usize, bool),
}

pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (slot, cpu) = (0..SLOTS, 0..PROCESSORS);
    let op = prop_oneof![
        4 => (slot.clone(), any::<bool>()).prop_map(|(parent, start)| Op::Create(parent, start)),
        4 => slot.clone().prop_map(Op::Start),
        1 => slot.clone().prop_map(Op::Stop),
        6 => cpu.clone().prop_map(Op::Switch),
        2 => (cpu.clone(), slot.clone()).prop_map(|(cpu, env)| Op::HandOver(cpu, env)),
        1 => (cpu.clone(), slot.clone()).prop_map(|(cpu, env)| Op::Wait(cpu, env)),
        1 => cpu.clone().prop_map(Op::Read),
        1 => Just(Op::Input),
        3 => (cpu.clone(), proptest::option::of(slot.clone()), proptest::option::of(0..4_u64))
            .prop_map(|(cpu, env, ticks)| Op::Receive(cpu, env, ticks)),
        2 => slot.clone().prop_map(Op::Interrupt),
        2 => (0..3_u64).prop_map(Op::Expire),
        1 => (slot.clone(), slot.clone(), 0..3_u64, any::<bool>())
            .prop_map(|(from, to, ticks, is_sent)| Op::SendLate(from, to, ticks, is_sent)),
        3 => (slot.clone(), slot.clone()).prop_map(|(from, to)| Op::Send(from, to)),
        4 => (cpu.clone(), slot.clone(), any::<bool>()).prop_map(|(cpu, to, only)| Op::Exchange(cpu, to, only)),
        1 => (cpu, slot.clone()).prop_map(|(cpu, env)| Op::KeepOff(cpu, env)),
        2 => (slot, any::<bool>()).prop_map(|(env, family)| Op::Condemn(env, family)),
    ];
    proptest::collection::vec(op, 1..80)
}
