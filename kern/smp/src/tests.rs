//! Tests of every order of events, for two or three processors.

use super::*;
use loom::{cell::UnsafeCell, sync::Arc, thread};

const ROOT: u32 = 7;
const FRAME: u64 = 5;

/// Tries all orders of events in which a processor is preempted at most twice where it could have gone on: more would
/// take hours, and finds no more bugs.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(f);
}

/// A page map with one page, and the processor that may have it loaded.
struct Space {
    entry: AtomicU64,
    loaded: Loaded,
    flushes: Flushes,
    /// Whether the frame that was in the entry has another owner.
    reused: AtomicU32,
    /// How many threads have finished changing the entry.
    finished: AtomicU32,
}

impl Space {
    fn new() -> Space {
        Space {
            entry: AtomicU64::new(FRAME),
            loaded: Loaded::default(),
            flushes: Flushes::default(),
            reused: AtomicU32::new(0),
            finished: AtomicU32::new(0),
        }
    }

    /// Takes the page away, and uses its frame for something else.
    fn take_away(&self) {
        self.entry.store(0, Relaxed);
        if self.loaded.may_be(ROOT) {
            let ticket = self.flushes.ask();
            while !self.flushes.is_done(ticket) {
                thread::yield_now();
            }
        }
        self.reused.store(1, Release);
        self.finished.fetch_add(1, Release);
    }

    /// The translation that loading the page map, or loading it again, puts into the TLB.
    fn load(&self) -> u64 {
        atomic::fence(SeqCst);
        self.entry.load(Relaxed)
    }

    /// Reads through the TLB, as a program does: a frame that is cached there must not belong to another owner.
    fn access(&self, cached: u64) {
        assert!(cached != FRAME || self.reused.load(Acquire) == 0, "read the frame of another owner");
    }
}

/// A page is taken away from a page map while another processor switches from another page map to this one, runs in it,
/// and switches to a third.
#[test]
fn no_frame_is_reused_while_it_is_cached() {
    model(|| {
        let space = Arc::new(Space::new());
        let other = Arc::clone(&space);
        let taker = thread::spawn(move || other.take_away());
        space.loaded.begin(ROOT);
        let mut cached = space.load();
        space.loaded.end(ROOT);
        space.access(cached);
        space.flushes.serve(|| cached = space.load());
        space.access(cached);
        space.loaded.begin(ROOT + 1);
        space.access(cached);
        atomic::fence(SeqCst);
        space.loaded.end(ROOT + 1);
        while space.finished.load(Acquire) == 0 {
            space.flushes.serve(|| ());
            thread::yield_now();
        }
        taker.join().unwrap();
    });
}

/// A change that a processor made, and what the last flush saw of it.
#[derive(Default)]
struct Change {
    entry: AtomicU64,
    seen: AtomicU64,
}

/// Two processors ask for a flush at once. Neither is told that a flush has happened which did not see its change, and
/// after one more flush both have been served.
#[test]
fn no_request_is_lost() {
    model(|| {
        let shared = Arc::new((Flushes::default(), [Change::default(), Change::default()]));
        let serve = |shared: &(Flushes, [Change; 2])| {
            shared.0.serve(|| {
                for change in &shared.1 {
                    change.seen.store(change.entry.load(Relaxed), Relaxed);
                }
            });
        };
        let ask = |shared: Arc<(Flushes, [Change; 2])>, n: usize| {
            let (flushes, changes) = &*shared;
            changes[n].entry.store(1, Relaxed);
            let ticket = flushes.ask();
            if flushes.is_done(ticket) {
                assert_eq!(changes[n].seen.load(Relaxed), 1, "flushed before the change");
            }
            ticket
        };
        let [first, second] = [Arc::clone(&shared), Arc::clone(&shared)];
        let first = thread::spawn(move || ask(first, 0));
        let second = thread::spawn(move || ask(second, 1));
        serve(&shared);
        let tickets = [first.join().unwrap(), second.join().unwrap()];
        serve(&shared);
        assert!(tickets.iter().all(|ticket| shared.0.is_done(*ticket)), "a request was lost");
        assert!(shared.1.iter().all(|change| change.seen.load(Relaxed) == 1));
    });
}

/// Two owners drop the last two references at once, after they have written or read something: it is freed once, by the
/// one that sees all that was written.
#[test]
fn the_last_reference_frees() {
    model(|| {
        let shared = Arc::new((AtomicU32::new(1), UnsafeCell::new(0_u32), AtomicU32::new(0)));
        assert!(add_reference(&shared.0));
        let drop_one = |shared: &(AtomicU32, UnsafeCell<u32>, AtomicU32)| {
            let (refs, contents, freed) = shared;
            contents.with(|contents| assert!(!contents.is_null()));
            if release(refs) {
                contents.with_mut(|contents| assert!(!contents.is_null()));
                freed.fetch_add(1, Relaxed);
            }
        };
        let other = Arc::clone(&shared);
        let thread = thread::spawn(move || drop_one(&other));
        drop_one(&shared);
        thread.join().unwrap();
        assert_eq!(shared.2.load(Relaxed), 1);
    });
}

/// A processor that finds that it has the only reference may write in place: the other one is done.
#[test]
fn who_is_alone_may_write() {
    model(|| {
        let shared = Arc::new((AtomicU32::new(2), UnsafeCell::new(0_u32)));
        let other = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            other.1.with(|contents| assert!(!contents.is_null()));
            assert!(!release(&other.0));
        });
        if is_sole(&shared.0) {
            shared.1.with_mut(|contents| assert!(!contents.is_null()));
        }
        thread.join().unwrap();
        assert!(is_sole(&shared.0) && release(&shared.0));
    });
}

/// Two processors try to exceed the limit at once: both are refused, and nothing is counted.
#[test]
fn too_many_are_refused() {
    model(|| {
        let refs = Arc::new(AtomicU32::new(MAX_REFS));
        let other = Arc::clone(&refs);
        let thread = thread::spawn(move || assert!(!add_reference(&other)));
        assert!(!add_reference(&refs));
        thread.join().unwrap();
        assert_eq!(refs.load(Relaxed), MAX_REFS);
    });
}
