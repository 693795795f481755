//! Common parts of the checks: a shared page, children, and waits with a time limit.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use core::{cell::Cell, fmt};
use libos::mmap::{MmapOptions, MmapShared};
use libos::{Args, Child, EnvId, ExitStatus, Fork, Status, console, env, fork, println, sys, windows};
use spin::Once;

/// The time limit of a wait, in milliseconds of the guest's time. (A busy host may suspend a processor of the guest for
/// a while.)
const PATIENCE: u64 = 60_000;
/// The time limit for the rounds of a check, in milliseconds.
const ROUNDS: u64 = 700;

/// Reports what did not hold, and ends the machine.
macro_rules! fail {
    ($($text:tt)*) => { $crate::kit::failed(format_args!($($text)*)) };
}
pub(crate) use fail;

/// The name of the running check.
static NAME: Once<spin::Mutex<Option<&'static str>>> = Once::new();

/// The arguments of the program.
static ARGS: Once<Args> = Once::new();

/// The number in an argument `name=number`.
pub fn argument(name: &str) -> Option<u64> {
    let value = |arg: &'static str| arg.strip_prefix(name)?.strip_prefix('=');
    let value = ARGS.get().into_iter().cloned().flatten().find_map(value)?;
    Some(value.parse().unwrap_or_else(|_| fail!("{name}={value} is no number")))
}

/// Implements [`fail`]. A child only ends itself: its parent, which waits for it, will fail, too.
pub fn failed(text: fmt::Arguments) -> ! {
    let name = NAME.get().and_then(|name| *name.lock()).unwrap_or("smp");
    println!("FAILED {name}: {text}");
    console::flush();
    let _ = sys::power_off(1);
    sys::exit(1)
}

/// Words that all environments of this program share.
static BOARD: Once<MmapShared> = Once::new();

/// Words on the board.
pub const WORDS: usize = 4096;

pub fn init(args: Args) {
    ARGS.call_once(|| args);
    let make = || MmapOptions::new().len(8 * WORDS).populate().map_shared_anon();
    match make() {
        Ok(board) => _ = BOARD.call_once(|| board),
        Err(error) => fail!("no board: {error:?}"),
    }
    NAME.call_once(|| spin::Mutex::new(None));
    // The memory that the first fork and the first line of text take stays in use.
    child(|| ()).ends();
}

pub fn begin(name: &'static str) {
    NAME.get().into_iter().for_each(|at| *at.lock() = Some(name));
    board().iter().for_each(|word| word.store(0, SeqCst));
}

/// The board.
pub fn board() -> &'static [AtomicU64] {
    BOARD.get().unwrap_or_else(|| fail!("the board is not there"))
}

pub fn get(word: usize) -> u64 {
    board()[word].load(SeqCst)
}

pub fn set(word: usize, value: u64) {
    board()[word].store(value, SeqCst);
}

pub fn add(word: usize) -> u64 {
    board()[word].fetch_add(1, SeqCst) + 1
}

/// Results of calls that cannot fail.
pub trait Must<T> {
    fn must(self, what: &str) -> T;
}

impl<T, E: fmt::Debug> Must<T> for Result<T, E> {
    fn must(self, what: &str) -> T {
        self.unwrap_or_else(|error| fail!("{what}: {error:?}"))
    }
}

/// A moment in the guest's time.
#[derive(Clone, Copy)]
pub struct Clock(u64);

impl Clock {
    pub fn start() -> Clock {
        Clock(windows::machine().ticks.load(SeqCst))
    }

    /// Whether this many milliseconds have passed.
    pub fn passed(self, ms: u64) -> bool {
        let machine = windows::machine();
        let ticks = machine.ticks.load(SeqCst) - self.0;
        ticks * machine.tick_ns.load(SeqCst) / 1_000_000 >= ms
    }
}

/// Lets others run until this holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = Clock::start();
    while !holds() {
        if clock.passed(PATIENCE) {
            fail!("waited in vain: {what}");
        }
        sys::yield_now();
    }
}

/// The numbers from 0 to `most`; fewer on a slow machine, but at least one.
pub fn rounds(most: u64) -> impl Iterator<Item = u64> {
    let clock = Clock::start();
    (0..most).take_while(move |round| *round == 0 || !clock.passed(ROUNDS))
}

/// Does nothing, for about this many steps.
pub fn pause(steps: u64) {
    (0..steps).for_each(|_| core::hint::spin_loop());
}

/// The number of working processors.
pub fn cpus() -> usize {
    windows::machine().cpus.load(SeqCst) as usize
}

/// Forks a child that runs `body`, and then exits with success.
pub fn child(body: impl FnOnce()) -> Child {
    match fork() {
        Ok(Fork::Parent(child)) => child,
        Ok(Fork::Child) => {
            body();
            env::exit(0)
        }
        Err(error) => fail!("no child: {error:?}"),
    }
}

/// Forks a child that repeats `body` until its parent ends it, or until it is older than any wait.
pub fn busy(mut body: impl FnMut()) -> Child {
    child(|| {
        let clock = Clock::start();
        while !clock.passed(2 * PATIENCE) {
            (0..100).for_each(|_| body());
        }
        fail!("nobody ended {}", env::id());
    })
}

/// Waits for a child, with a time limit.
pub trait Ends {
    /// Waits for the end; returns the status.
    fn status(self) -> ExitStatus;
    /// Waits for the end, which must be a success.
    fn ends(self);
    /// Ends it, and waits.
    fn put_down(self);
}

impl Ends for Child {
    fn status(self) -> ExitStatus {
        let mut status = None;
        until("the end of a child", || {
            status = sys::try_wait(self.id()).must("wait");
            status.is_some()
        });
        status.map_or(ExitStatus::FAILURE, |(_, status)| status)
    }

    fn ends(self) {
        let status = self.status();
        if !status.is_success() {
            fail!("{}: {status}", self.id());
        }
    }

    fn put_down(self) {
        self.kill().must("destroy");
        let status = self.status();
        if status != ExitStatus::DESTROYED {
            fail!("{} was destroyed: {status}", self.id());
        }
    }
}

/// Children that were made together.
pub struct Crew {
    children: [Option<Child>; Crew::MOST],
}

impl Crew {
    pub const MOST: usize = 64;

    /// Makes this many children with `make`, which gets the number of the child.
    pub fn new(count: usize, mut make: impl FnMut(usize) -> Child) -> Crew {
        let mut children = [None; Crew::MOST];
        for (index, slot) in children[..count.min(Crew::MOST)].iter_mut().enumerate() {
            *slot = Some(make(index));
        }
        Crew { children }
    }

    pub fn each(&self) -> impl Iterator<Item = Child> {
        self.children.iter().copied().flatten()
    }

    pub fn ids(&self) -> impl Iterator<Item = EnvId> {
        self.each().map(Child::id)
    }

    /// Waits for all of them.
    pub fn ends(&self) {
        self.each().for_each(Ends::ends);
    }

    /// Ends all of them. All are destroyed before the first wait, so that they end at the same time.
    pub fn put_down(&self) {
        self.each().for_each(|child| child.kill().must("destroy"));
        for child in self.each() {
            let status = child.status();
            if status != ExitStatus::DESTROYED {
                fail!("{} was destroyed: {status}", child.id());
            }
        }
    }
}

/// Whether an environment is on a processor at this moment.
pub fn is_running(id: EnvId) -> bool {
    windows::env(id).is_some_and(|env| env.status() == Status::Running)
}

/// A generator of random numbers, the same in every run.
#[derive(Clone)]
pub struct Draw(Cell<u64>);

impl Draw {
    pub fn new(seed: u64) -> Draw {
        Draw(Cell::new(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15)))
    }

    /// A number below `limit`.
    pub fn below(&self, limit: u64) -> u64 {
        let mut x = self.0.get() | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        (x >> 16) % limit
    }
}
