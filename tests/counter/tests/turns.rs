//! Processors that take turns.

use abi::{Call, window::MachineInfo};
use counter::Counter;
use std::array;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const ALLOC: u64 = Call::Alloc as u64;
const MAP: u64 = Call::Map as u64;

/// An emulator that executes one processor at a time, and counts the instructions of all of them.
struct Emulator {
    counter: Counter,
    machine: MachineInfo,
    executed: Cell<u64>,
}

impl Emulator {
    fn new(tick_ns: u64) -> Emulator {
        let machine = MachineInfo {
            total_frames: 0.into(),
            ticks: 0.into(),
            tick_ns: tick_ns.into(),
            archive_bytes: 0.into(),
            program_offset: 0.into(),
            program_bytes: 0.into(),
            longest_entry: 0.into(),
            longest_cause: 0.into(),
            longest_by_call: array::from_fn(|_| AtomicU64::new(0)),
            idle: 0.into(),
            env_slots: 0.into(),
            devices: 0.into(),
            cpus: 0.into(),
            first_env: 0.into(),
            args_len: 0.into(),
            args: array::from_fn(|_| 0.into()),
        };
        Emulator { counter: Counter::new(), machine, executed: Cell::new(1_000) }
    }

    /// The processor whose turn it is executes that many instructions.
    fn execute(&self, instructions: u64) {
        self.executed.set(self.executed.get() + instructions);
    }

    fn clock(&self) -> impl Fn() -> u64 {
        || self.executed.get()
    }

    fn begin(&self, cpu: u32) {
        self.counter.begin(cpu, self.clock());
    }

    fn end(&self, cpu: u32, cause: u64) {
        self.counter.end(cpu, self.clock(), cause, &self.machine);
    }

    fn wait(&self, cpu: u32) {
        self.counter.wait(cpu, self.clock());
    }

    fn go_on(&self, cpu: u32) {
        self.counter.go_on(cpu, self.clock());
    }

    /// A whole entry without any wait.
    fn enter(&self, cpu: u32, cause: u64, instructions: u64) {
        self.begin(cpu);
        self.execute(instructions);
        self.end(cpu, cause);
    }

    /// The longest entry and its cause.
    fn longest(&self) -> (u64, u64) {
        (self.machine.longest_entry.load(Relaxed), self.machine.longest_cause.load(Relaxed))
    }

    /// The longest entry with this cause.
    fn longest_by(&self, call: u64) -> u64 {
        self.machine.longest_by_call[call as usize].load(Relaxed)
    }
}

#[test]
fn the_longest_entry_and_its_cause_are_recorded() {
    let emulator = Emulator::new(0);
    emulator.enter(0, ALLOC, 30);
    emulator.execute(1_000); // a program
    emulator.enter(0, MAP, 50);
    emulator.enter(0, ALLOC, 40);
    assert_eq!(emulator.longest(), (50, MAP));
    assert_eq!((emulator.longest_by(ALLOC), emulator.longest_by(MAP)), (40, 50));
    emulator.enter(0, MachineInfo::VECTOR + 14, 60);
    emulator.enter(0, MachineInfo::SWITCH, 60);
    assert_eq!(emulator.longest(), (60, MachineInfo::VECTOR + 14), "the first one of that length");
    let calls: Vec<u64> = emulator.machine.longest_by_call.iter().map(|longest| longest.load(Relaxed)).collect();
    assert_eq!(calls.iter().sum::<u64>(), 90, "no call took 60: {calls:?}");
}

#[test]
fn an_entry_during_which_another_processor_was_in_the_kernel_does_not_count() {
    let emulator = Emulator::new(0);
    emulator.begin(0);
    emulator.execute(30);
    emulator.enter(1, MAP, 20);
    emulator.execute(30);
    emulator.end(0, ALLOC);
    assert_eq!((emulator.longest(), emulator.longest_by(ALLOC)), ((20, MAP), 0));
    // The next entry of the same processor counts again.
    emulator.enter(0, ALLOC, 70);
    assert_eq!(emulator.longest(), (70, ALLOC));
}

#[test]
fn an_entry_does_not_count_if_two_overlap() {
    let emulator = Emulator::new(0);
    emulator.begin(0);
    emulator.execute(30);
    emulator.begin(1);
    emulator.execute(20);
    emulator.end(0, ALLOC);
    emulator.execute(20);
    emulator.end(1, MAP);
    assert_eq!(emulator.longest(), (0, 0));
}

#[test]
fn an_entry_does_not_count_if_another_processor_came_to_rest_meanwhile() {
    let rests: [fn(&Emulator); 2] = [|emulator| emulator.counter.halt(1), |emulator| emulator.wait(1)];
    for rest in rests {
        let emulator = Emulator::new(1_000_000);
        emulator.begin(1);
        emulator.execute(10);
        emulator.begin(0);
        emulator.execute(30);
        // The emulator lets the other one execute for a while.
        emulator.execute(1_000);
        rest(&emulator);
        emulator.execute(30);
        emulator.end(0, ALLOC);
        assert_eq!(emulator.longest(), (0, 0));
    }
}

#[test]
fn an_idle_processor_is_in_the_kernel() {
    let emulator = Emulator::new(0);
    emulator.begin(0);
    emulator.counter.idle(1);
    emulator.execute(30);
    emulator.end(0, ALLOC);
    assert_eq!(emulator.longest(), (0, 0));
}

#[test]
fn the_time_of_a_wait_is_left_out() {
    let emulator = Emulator::new(0);
    emulator.begin(0);
    for _ in 0..3 {
        emulator.execute(10);
        emulator.wait(0);
        emulator.execute(1_000);
        emulator.enter(1, MAP, 5);
        emulator.go_on(0);
    }
    emulator.execute(10);
    emulator.end(0, ALLOC);
    assert_eq!(emulator.longest(), (40, ALLOC));
    assert_eq!(emulator.longest_by(MAP), 5);
}

#[test]
fn what_disturbed_an_entry_before_its_wait_or_after_it_still_does() {
    let emulator = Emulator::new(0);
    emulator.begin(0);
    emulator.counter.idle(1);
    emulator.wait(0);
    emulator.go_on(0);
    emulator.execute(30);
    emulator.end(0, ALLOC);
    emulator.begin(0);
    emulator.wait(0);
    emulator.go_on(0);
    emulator.execute(30);
    emulator.counter.idle(1);
    emulator.end(0, ALLOC);
    assert_eq!(emulator.longest(), (0, 0));
}

#[test]
fn a_wait_outside_of_an_entry_changes_no_count() {
    let emulator = Emulator::new(0);
    emulator.enter(0, ALLOC, 30);
    emulator.wait(0);
    emulator.execute(100);
    emulator.go_on(0);
    emulator.execute(100);
    emulator.enter(0, MAP, 20);
    assert_eq!(emulator.longest(), (30, ALLOC));
}

#[test]
fn with_a_timer_an_entry_counts_only_if_all_others_halted_or_waited_at_its_end() {
    let emulator = Emulator::new(10_000);
    let enter = |instructions| {
        emulator.enter(0, ALLOC, instructions);
        emulator.longest().0 == instructions
    };
    assert!(enter(10), "the others have not started");
    emulator.enter(1, MAP, 5);
    assert!(!enter(20), "a program runs on processor 1");
    emulator.begin(1);
    emulator.wait(1);
    assert!(enter(30), "processor 1 waits");
    emulator.counter.idle(2);
    assert!(!enter(40), "processor 2 looks for work");
    emulator.counter.halt(2);
    assert!(enter(50), "processor 2 halts");
    emulator.go_on(1);
    assert!(!enter(60), "processor 1 goes on");
    assert_eq!(emulator.longest(), (50, ALLOC));
}

#[test]
fn without_a_timer_other_programs_may_run() {
    let emulator = Emulator::new(0);
    emulator.enter(1, MAP, 5);
    emulator.enter(63, MAP, 5);
    emulator.enter(0, ALLOC, 20);
    assert_eq!(emulator.longest(), (20, ALLOC));
}
