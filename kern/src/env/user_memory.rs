//! Memory of user programs, read and written by system calls.
//!
//! The kernel never uses the program's address: it looks up each page, checks rights, and copies through the direct map
//! while the page map is locked. A page that is missing is an error with its address; libos then brings the page in and
//! makes the call again.

use crate::env::table::{Env, with_page_map};
use crate::machine::windows::bytes;
use abi::layout::{SLOT_SIZE, USER_LIMIT};
use abi::{Error, PAGE_SIZE, PageOp, Registers, Va};
use core::mem::MaybeUninit;

/// One past the last address of the user's half.
const HALF: u64 = 256 * SLOT_SIZE;

/// An array in user memory: an allegation until it is read or written.
#[derive(Clone, Copy)]
pub struct UserSlice {
    at: u64,
    /// The number of elements, as the caller claims.
    pub len: u64,
}

/// Types for which any bits are a valid value.
///
/// # Safety
/// Any bits are a valid value of the type, and it has no padding.
pub unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for u8 {}
// SAFETY: integers without gaps.
unsafe impl Plain for Registers {}
// SAFETY: integers without gaps.
unsafe impl Plain for PageOp {}

impl UserSlice {
    pub fn new(at: Va, len: u64) -> UserSlice {
        UserSlice { at: at.0, len }
    }

    /// Copy from user memory until `out` is full.
    ///
    /// # Errors
    /// [`Error::Fault`] with the first address that cannot be read, [`Error::BadAddress`].
    pub fn read<'a, T: Plain>(&self, env: &'static Env, out: &'a mut [MaybeUninit<T>]) -> Result<&'a [T], Error> {
        let len = size_of_val(out);
        let to: *mut u8 = out.as_mut_ptr().cast();
        self.check_range(len as u64, HALF)?;
        with_page_map(env, |map| {
            self.pieces(len as u64, |va, done, len| {
                let page = map.page(va).ok_or(Error::Fault(va.0))?;
                // SAFETY: `len` bytes stay within the page and within `out`; any bits will do.
                unsafe {
                    let from = bytes(page.frame).add(va.offset() as usize);
                    to.add(done as usize).copy_from_nonoverlapping(from, len as usize);
                }
                Ok(())
            })
        })?;
        // SAFETY: all of it was filled.
        Ok(unsafe { out.assume_init_ref() })
    }

    /// Copies the bytes that `get` returns into user memory: at most `most` bytes, and only once it is certain that
    /// this many can be written. Returns how many were copied.
    ///
    /// # Errors
    /// [`Error::Fault`] with the first address that cannot be written, [`Error::TableShared`],
    /// [`Error::BadAddress`].
    pub fn fill<'a>(&self, env: &'static Env, most: u64, get: impl FnOnce() -> &'a [u8]) -> Result<u64, Error> {
        self.check_range(most, USER_LIMIT.0)?;
        with_page_map(env, |map| {
            self.pieces(most, |va, _, _| map.dirty(va).map(drop))?;
            let data = get();
            self.pieces(data.len() as u64, |va, done, len| {
                let frame = map.dirty(va)?;
                // SAFETY: `len` bytes stay within the page, which the user may write, and `data`.
                unsafe {
                    let to = bytes(frame).add(va.offset() as usize);
                    to.copy_from_nonoverlapping(data.as_ptr().add(done as usize), len as usize);
                }
                Ok(())
            })?;
            Ok(data.len() as u64)
        })
    }

    /// Checks that `len` bytes do not go beyond `limit`.
    fn check_range(&self, len: u64, limit: u64) -> Result<(), Error> {
        let fits = self.at < limit && len <= limit - self.at;
        if fits { Ok(()) } else { Err(Error::BadAddress(self.at.max(limit))) }
    }

    /// Calls `f` for every piece that lies in one page, with its address, the number of bytes before it, and its
    /// length.
    fn pieces(&self, len: u64, mut f: impl FnMut(Va, u64, u64) -> Result<(), Error>) -> Result<(), Error> {
        let mut done = 0;
        while done < len {
            let va = Va(self.at + done);
            let piece = (PAGE_SIZE - va.offset()).min(len - done);
            f(va, done, piece)?;
            done += piece;
        }
        Ok(())
    }
}
