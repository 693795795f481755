//! Environments that calls can name.

use libos::{Child, EnvId, Fork, Status, abi::Error, env, fork, ipc, sys, windows};

/// A child, a child of another environment, and some that have ended. They are ended when this is dropped.
pub struct Family {
    /// A child that waits for messages.
    pub child: EnvId,
    /// The child's child, which waits for messages.
    pub foreign: EnvId,
    /// A child that has ended, and whose status was not requested.
    pub zombie: EnvId,
    /// A child that has ended and is reaped.
    pub dead: EnvId,
}

/// Forks a child that runs `body`, and then exits with 0.
pub fn child(body: impl FnOnce()) -> Child {
    // The checks make calls directly: no shared page table may be in the way.
    match fork::by_page().expect("a child") {
        Fork::Parent(child) => child,
        Fork::Child => {
            body();
            sys::exit(0)
        }
    }
}

/// The message that ends a listener.
pub const QUIT: u64 = 0x7175_6974;

/// Receives messages until one is [`QUIT`].
pub fn listen() {
    while ipc::recv().map(|message| message.value) != Ok(QUIT) {}
}

/// Lets others run until this holds; `false` if it never does.
pub fn becomes(mut holds: impl FnMut() -> bool) -> bool {
    (0..100_000).any(|_| {
        let there = holds();
        if !there {
            sys::yield_now();
            // An emulator with one thread switches to another processor here, and otherwise only now and then.
            core::hint::spin_loop();
        }
        there
    })
}

/// Lets others run until an environment has this status; `false` if it never does. A running environment counts
/// as runnable, too, since that depends on the number of processors.
pub fn reaches(id: EnvId, status: Status) -> bool {
    let same = |found| found == status || (found == Status::Running && status == Status::Runnable);
    becomes(|| windows::env(id).is_some_and(|env| same(env.status())))
}

/// Ends a child and waits for it.
pub fn end(id: EnvId) {
    let _ = sys::destroy(id);
    let _ = sys::wait(id);
}

impl Family {
    pub fn new() -> Family {
        let me = env::id();
        let dead = child(|| ()).id();
        let _ = sys::wait(dead);
        let zombie = child(|| ()).id();
        let child = child(|| {
            let grandchild = child(listen);
            let _ = ipc::send(me, grandchild.id().0.into());
            listen();
        });
        let child = child.id();
        let foreign = EnvId(ipc::recv().expect("the id").value as u32);
        let there =
            reaches(zombie, Status::Zombie) && reaches(child, Status::Receiving) && reaches(foreign, Status::Receiving);
        assert!(there, "the family did not settle");
        Family { child, foreign, zombie, dead }
    }

    /// Ids of no living environment.
    pub fn nobodies(&self) -> [(&'static str, u64); 7] {
        let me = u64::from(env::id().0);
        [
            ("dead", self.dead.0.into()),
            ("zombie", self.zombie.0.into()),
            ("slot never used", EnvId::new(1, 60).0.into()),
            ("no such slot", EnvId::new(1, EnvId::MAX_SLOTS - 1).0.into()),
            ("next generation", me + (1 << EnvId::SLOT_BITS)),
            ("33 bits", 1 << 32 | me),
            ("64 bits", u64::MAX),
        ]
    }

    /// Ids that calls on one's own children refuse, each with its error.
    pub fn not_mine(&self) -> impl Iterator<Item = (&'static str, u64, Error)> {
        let foreign = u64::from(self.foreign.0);
        let nobodies = self.nobodies().map(|(what, id)| (what, id, Error::BadEnv(id)));
        nobodies.into_iter().chain([("foreign", foreign, Error::NotYours(foreign))])
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let _ = ipc::send(self.foreign, QUIT);
        let ended = reaches(self.foreign, Status::Zombie);
        assert!(ended, "the grandchild did not end");
        end(self.child);
        end(self.zombie);
    }
}
