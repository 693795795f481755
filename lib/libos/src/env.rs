//! Environments: this one, and its children.

use crate::{EnvId, ExitStatus, console, sys, windows};
use core::sync::atomic::Ordering::Relaxed;

/// Ends this environment with a status of 0 to 63, after printing what the console still buffers.
pub fn exit(status: u8) -> ! {
    console::flush();
    sys::exit(status)
}

/// The id of this environment.
#[must_use]
pub fn id() -> EnvId {
    sys::id()
}

/// The parent of this environment: the environment that made it, or, when that has ended by itself, the one that
/// adopted it. [`EnvId::NONE`] for the first environment, and for a program that replaces it.
#[must_use]
pub fn parent() -> EnvId {
    windows::env(id()).map_or(EnvId::NONE, |info| info.parent())
}

/// The processor that this environment runs on.
#[must_use]
pub fn cpu() -> u32 {
    windows::env(id()).map_or(0, |info| info.cpu.load(Relaxed))
}

/// A child, made by [`fork`](crate::fork()) or [`Command::spawn`](crate::Command::spawn).
///
/// Dropping the value does not affect the child. If the parent does not wait for a child, its slot stays in use until
/// the parent has ended. A child whose parent ends first goes to its grandparent, unless it is stopped: then it ends.
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
    /// `NoChild` or `BadEnv` if the child was waited for before.
    pub fn wait(self) -> sys::Result<ExitStatus> {
        sys::wait(self.0).map(|(_, status)| status)
    }

    /// Ends the child and all its descendants. The parent must still wait for the child.
    ///
    /// # Errors
    /// `BadEnv` if it has ended and was waited for.
    pub fn kill(self) -> sys::Result<()> {
        sys::destroy(self.0)
    }
}
