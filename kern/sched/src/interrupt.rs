//! Interrupts of devices: messages without a sender.
//!
//! An interrupt may come at any moment, and its receiver may begin to wait at any moment. Both happen with the scheduler
//! locked, so no interrupt is lost between the two: a receiver that is about to wait finds the interrupt, or the
//! interrupt finds the receiver waiting.

use crate::node::Node;
use crate::scheduler::Scheduler;
use abi::EnvId;

/// A device, which sends an interrupt if something has happened and the interrupt is not masked.
pub trait Device {
    /// Counts an interrupt.
    fn count(&self);
    /// Whether an interrupt was counted that is not in a message yet.
    fn is_pending(&self) -> bool;
    /// Masks the interrupt, or no longer. What happens meanwhile is sent afterwards.
    fn mask(&self, masked: bool);
}

impl<N: Node> Scheduler<N> {
    /// Counts an interrupt of a device, and masks it until somebody waits for it. The rest is as in
    /// [`tell`](Scheduler::tell).
    #[must_use]
    pub fn interrupt(&mut self, device: &impl Device, id: EnvId, holder: &'static N) -> bool {
        device.mask(true);
        device.count();
        self.tell(device, id, holder)
    }

    /// Ends the wait of a holder, if it waits for a message of its device with this id, and the device has one. The
    /// caller then puts the message into its registers, and [wakes](Scheduler::wake) it. `false` while a sender has
    /// claimed the holder: that sender has to call this if it has no message in the end.
    #[must_use]
    pub fn tell(&mut self, device: &impl Device, id: EnvId, holder: &'static N) -> bool {
        device.is_pending() && self.claim(holder, holder.id(), id).is_some() && self.deliver(holder)
    }

    /// Whether a device has a message for its holder, which is about to wait. If not, it may interrupt from now on: the
    /// holder has to [wait](Scheduler::receive) before the caller gives up the lock, or calls this before its next wait.
    #[must_use]
    pub fn listen(&mut self, device: &impl Device) -> bool {
        let pending = device.is_pending();
        if !pending {
            device.mask(false);
        }
        pending
    }
}
