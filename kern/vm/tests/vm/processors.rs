//! Page frames, taken and freed by several processors at once: threads of the host.

use abi::window::{CpuInfo, FrameInfo};
use abi::{Error, Frame, Va};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Barrier, LazyLock, Mutex};
use std::{cell::Cell, thread};
use vm::{Machine, Memory, Table};

const CPUS: usize = 4;
const FRAMES: usize = 1000;
/// The greatest number of frames of one processor such that some are always left.
const HELD: usize = 40;

/// Frames without contents, and processors that are threads.
struct Threads;

static METADATA: LazyLock<Vec<FrameInfo>> = LazyLock::new(|| (0..=FRAMES).map(|_| FrameInfo::default()).collect());
static COUNTS: LazyLock<Vec<CpuInfo>> = LazyLock::new(|| (0..CPUS).map(|_| CpuInfo::default()).collect());
/// The owner of each frame: the number of the processor plus one.
static OWNERS: [AtomicU32; FRAMES + 1] = [const { AtomicU32::new(0) }; FRAMES + 1];

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

impl Machine for Threads {
    fn table(_: Frame) -> &'static Table {
        unreachable!("there are no contents")
    }

    /// Yields now and then: frame metadata is used wherever frames move between lists.
    fn info(frame: Frame) -> &'static FrameInfo {
        CALLS.set(CALLS.get() + 1);
        if CALLS.get().is_multiple_of(61) {
            thread::yield_now();
        }
        &METADATA[frame.0 as usize]
    }

    fn cpus() -> &'static [CpuInfo] {
        &COUNTS
    }

    fn cpu() -> usize {
        CPU.get()
    }

    fn counts() -> &'static CpuInfo {
        &COUNTS[CPU.get()]
    }

    fn memory() -> &'static Memory<Threads> {
        unreachable!("there are no page maps")
    }

    fn zero(_: Frame) {}

    fn copy(_: Frame, _: Frame) {}

    fn invalidate(_: Frame, _: Va) {}

    fn invalidate_all(_: Frame) {}

    fn poison(_: impl Iterator<Item = Frame>) {}

    fn expect_zeros(_: &[std::sync::atomic::AtomicU64]) {}

    fn is_here(_: Frame) -> bool {
        true
    }

    fn is_elsewhere(_: Frame) -> bool {
        false
    }

    fn flush_elsewhere(_: Frame) {}

    fn relax() {
        thread::yield_now();
    }
}

/// Takes up to `most` frames for this processor; checks that none has an owner already.
fn take(memory: &Memory<Threads>, most: usize) -> Vec<Frame> {
    let mut taken = Vec::new();
    while taken.len() < most {
        match memory.alloc() {
            Ok(frame) => taken.push(frame),
            Err(Error::NoMemory(0)) => break,
            Err(other) => panic!("{other:?}"),
        }
        let frame = *taken.last().expect("one was taken");
        assert_eq!(OWNERS[frame.0 as usize].swap(CPU.get() as u32 + 1, Relaxed), 0, "{frame:?}");
    }
    taken
}

fn give(memory: &Memory<Threads>, frames: impl IntoIterator<Item = Frame>) {
    for frame in frames {
        OWNERS[frame.0 as usize].store(0, Relaxed);
        memory.release(frame);
    }
}

/// Runs `f` on each processor.
fn on_all(f: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for cpu in 0..CPUS {
            let f = &f;
            scope.spawn(move || {
                CPU.set(cpu);
                f(cpu);
            });
        }
    });
}

/// Each processor takes and frees frames at random, and frees all of them in the end.
fn take_and_give_by_chance(memory: &Memory<Threads>) {
    on_all(|cpu| {
        let mut random = cpu as u32 + 1;
        let mut mine = Vec::new();
        for _ in 0..4000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let some = (random >> 16) as usize % 200;
            if random >> 31 == 0 {
                mine.extend(take(memory, some));
            } else {
                let keep = mine.len().saturating_sub(some);
                give(memory, mine.drain(keep..));
            }
        }
        give(memory, mine);
    });
}

/// Each processor takes few enough frames that one is always left, so no allocation may fail. Processors free frames
/// that others took, so that frames move through the pool and between processors.
fn pass_from_hand_to_hand(memory: &Memory<Threads>) {
    let left_over = take(memory, FRAMES - CPUS * HELD - 1);
    let baskets: [Mutex<Vec<Frame>>; CPUS] = Default::default();
    on_all(|cpu| {
        let mut random = cpu as u32 + 1;
        for _ in 0..3000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut basket = baskets[(random >> 16) as usize % CPUS].lock().expect("nobody panicked");
            let wanted = (random >> 20) as usize % (HELD + 1);
            if basket.len() < wanted {
                let some = wanted - basket.len();
                let found = take(memory, some);
                assert_eq!(found.len(), some, "frames were free, and not found");
                basket.extend(found);
            } else {
                give(memory, basket.drain(wanted..));
            }
        }
    });
    give(memory, baskets.into_iter().flat_map(|basket| basket.into_inner().expect("nobody panicked")));
    give(memory, left_over);
}

/// All processors compete for the rest, which others are freeing: none may give up while one is left.
fn take_the_rest_at_once(memory: &Memory<Threads>, all: &[Frame]) {
    let barrier = Barrier::new(CPUS);
    on_all(|cpu| {
        let share = all.iter().copied().skip(cpu).step_by(CPUS);
        give(memory, share);
        barrier.wait();
        let mine = take(memory, usize::MAX);
        barrier.wait();
        assert_eq!(memory.free_frames(), 0);
        barrier.wait();
        give(memory, mine);
    });
}

/// One test, because there is only one such machine.
#[test]
fn no_frame_is_lost_or_given_twice() {
    let memory = Memory::<Threads>::empty();
    for frame in 1..=FRAMES {
        METADATA[frame].refs.store(1, Relaxed);
        memory.release(Frame(frame as u32));
    }
    assert_eq!(memory.free_frames(), FRAMES as u64);

    take_and_give_by_chance(&memory);
    assert_eq!(memory.free_frames(), FRAMES as u64);

    // Wherever the frames are now: one processor gets all of them, and then none is left.
    let all = take(&memory, usize::MAX);
    assert_eq!((all.len(), memory.free_frames()), (FRAMES, 0));

    give(&memory, all.iter().copied());
    pass_from_hand_to_hand(&memory);
    let all = take(&memory, usize::MAX);
    assert_eq!(all.len(), FRAMES);

    take_the_rest_at_once(&memory, &all);
    assert_eq!(memory.free_frames(), FRAMES as u64);
}
