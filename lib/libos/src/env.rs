//! Environments: oneself, and one's children.

use crate::{EnvId, ExitStatus, console, sys, windows};
use core::sync::atomic::Ordering::Relaxed;

/// End this environment, with a status of 0 to 63; what was printed is shown.
pub fn exit(status: u8) -> ! {
    console::flush();
    sys::exit(status)
}

/// The id of this environment.
#[must_use]
pub fn id() -> EnvId {
    sys::id()
}

/// The parent of this environment: the one that made it, or, when that has ended by itself, the one that adopted this
/// environment. [`EnvId::NONE`] for the first environment, or what goes in its place.
#[must_use]
pub fn parent() -> EnvId {
    windows::env(id()).map_or(EnvId::NONE, |info| info.parent())
}

/// The processor that this environment runs on.
#[must_use]
pub fn cpu() -> u32 {
    windows::env(id()).map_or(0, |info| info.cpu.load(Relaxed))
}

/// A child: made by [`fork`](crate::fork()) or [`Command::spawn`](crate::Command::spawn).
///
/// Dropping it leaves the child alone; when nobody waits for a child, its slot stays in use until
/// its parent has ended. A child whose parent ends first goes to its grandparent, unless it is stopped: then it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Child(pub(crate) EnvId);

impl Child {
    /// The child's id.
    #[must_use]
    pub fn id(self) -> EnvId {
        self.0
    }

    /// Wait for the child to end.
    ///
    /// # Errors
    /// `NoChild` or `BadEnv` if somebody waited for it before.
    pub fn wait(self) -> sys::Result<ExitStatus> {
        sys::wait(self.0).map(|(_, status)| status)
    }

    /// End the child, and all that descend from it. It still has to be waited for.
    ///
    /// # Errors
    /// `BadEnv` if it has ended and was waited for.
    pub fn kill(self) -> sys::Result<()> {
        sys::destroy(self.0)
    }
}
