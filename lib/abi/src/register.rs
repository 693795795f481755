//! The kinds of arguments, and how registers hold them.

use crate::{Awaited, EnvId, Error, Perms, Va};

/// A kind of argument of a system call.
pub trait Register: Sized {
    /// Decodes an argument.
    ///
    /// # Errors
    /// It is not of this kind, whatever the call.
    fn from_register(argument: u64) -> Result<Self, Error>;

    /// The argument as a register holds it.
    fn to_register(self) -> u64;
}

/// Any word.
impl Register for u64 {
    #[inline(always)]
    fn from_register(argument: u64) -> Result<u64, Error> {
        Ok(argument)
    }

    #[inline(always)]
    fn to_register(self) -> u64 {
        self
    }
}

/// A number of pages or tables: 32 bits.
impl Register for u32 {
    #[inline(always)]
    fn from_register(argument: u64) -> Result<u32, Error> {
        u32::try_from(argument).map_err(|_| Error::BadCount(argument))
    }

    #[inline(always)]
    fn to_register(self) -> u64 {
        self.into()
    }
}

/// An id: 32 bits.
impl Register for EnvId {
    #[inline(always)]
    fn from_register(argument: u64) -> Result<EnvId, Error> {
        u32::try_from(argument).map(EnvId).map_err(|_| Error::BadEnv(argument))
    }

    #[inline(always)]
    fn to_register(self) -> u64 {
        self.0.into()
    }
}

/// The id below, the ticks above: 32 bits each.
impl Register for Awaited {
    #[inline(always)]
    fn from_register(argument: u64) -> Result<Awaited, Error> {
        Ok(Awaited { env: EnvId(argument as u32), ticks: (argument >> 32) as u32 })
    }

    #[inline(always)]
    fn to_register(self) -> u64 {
        u64::from(self.env.0) | u64::from(self.ticks) << 32
    }
}

/// Any address: each call has its own rules.
impl Register for Va {
    #[inline(always)]
    fn from_register(argument: u64) -> Result<Va, Error> {
        Ok(Va(argument))
    }

    #[inline(always)]
    fn to_register(self) -> u64 {
        self.0
    }
}

/// Any bits: a call may ignore them.
impl Register for Perms {
    #[inline(always)]
    fn from_register(argument: u64) -> Result<Perms, Error> {
        Ok(Perms::from_bits_retain(argument))
    }

    #[inline(always)]
    fn to_register(self) -> u64 {
        self.bits()
    }
}
