//! The states of environments.

/// The state of an environment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Status {
    /// The slot is not in use.
    Free = 0,
    /// Waits for its parent to make it runnable.
    Stopped = 1,
    /// Waits for a processor.
    Runnable = 2,
    /// Runs on a processor.
    Running = 3,
    /// Waits for a message.
    Receiving = 4,
    /// Waits for a message, until a deadline.
    ReceivingUntil = 5,
    /// Waits for a child to end.
    Waiting = 6,
    /// Waits for console input.
    Reading = 7,
    /// Has ended; its memory is being freed.
    Dying = 8,
    /// Has ended; its parent has not asked for the status yet.
    Zombie = 9,
}

impl Status {
    /// Whether an environment with this status lives: it is neither ending nor gone.
    #[must_use]
    #[inline]
    pub const fn is_alive(self) -> bool {
        !matches!(self, Status::Free | Status::Dying | Status::Zombie)
    }

    /// The status with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Status> {
        Some(match number {
            0 => Status::Free,
            1 => Status::Stopped,
            2 => Status::Runnable,
            3 => Status::Running,
            4 => Status::Receiving,
            5 => Status::ReceivingUntil,
            6 => Status::Waiting,
            7 => Status::Reading,
            8 => Status::Dying,
            9 => Status::Zombie,
            _ => return None,
        })
    }
}
