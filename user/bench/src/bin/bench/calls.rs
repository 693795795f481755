//! Calls: the cheapest one, and calls that change pages.

use crate::{Dirty, FEW, MANY, ME, OTHERS, PAGES, Result, Samples, run};
use alloc::vec::Vec;
use core::hint::black_box;
use libos::{Error, PageOp, Perms, Pte, sys, uvpt};

pub fn null_call(samples: &mut Samples) -> Result {
    for _ in 0..MANY {
        samples.time(|| black_box(sys::id()));
    }
    Ok(())
}

pub fn alloc1(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    sys::unmap(ME, PAGES, MANY.into())?;
    run(dirty.0, MANY).try_for_each(|page| samples.time(|| sys::alloc(ME, page, 1, Perms::WRITE)).map_err(Error::from))
}

pub fn map1(samples: &mut Samples) -> Result {
    let (from, to) = (Dirty::new(PAGES, MANY)?, Dirty::new(OTHERS, MANY)?);
    sys::unmap(ME, OTHERS, MANY.into())?;
    run(from.0, MANY)
        .zip(run(to.0, MANY))
        .try_for_each(|(from, to)| samples.time(|| sys::map(ME, from, ME, to, 1, Perms::WRITE)).map_err(Error::from))
}

pub fn prot1(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    run(dirty.0, MANY).try_for_each(|page| samples.time(|| sys::protect(ME, page, 1, Perms::READ)).map_err(Error::from))
}

pub fn unprot1(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    sys::protect(ME, PAGES, MANY.into(), Perms::READ)?;
    run(dirty.0, MANY)
        .try_for_each(|page| samples.time(|| sys::protect(ME, page, 1, Perms::WRITE)).map_err(Error::from))
}

pub fn unmap1(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    run(dirty.0, MANY).try_for_each(|page| samples.time(|| sys::unmap(ME, page, 1)).map_err(Error::from))
}

/// Times one operation on a run of pages, in a batch.
#[inline(always)]
pub fn batch(samples: &mut Samples, ops: &[PageOp]) -> Result {
    samples.time(|| sys::page_ops(black_box(ops))).map_err(|(_, error)| error.into())
}

pub fn alloc100(samples: &mut Samples) -> Result {
    for _ in 0..FEW {
        let _dirty = Dirty::new(PAGES, MANY)?;
        sys::unmap(ME, PAGES, MANY.into())?;
        batch(samples, &[PageOp::alloc(ME, PAGES, MANY, Perms::WRITE)])?;
    }
    Ok(())
}

pub fn map100(samples: &mut Samples) -> Result {
    for _ in 0..FEW {
        let (_from, _to) = (Dirty::new(PAGES, MANY)?, Dirty::new(OTHERS, MANY)?);
        sys::unmap(ME, OTHERS, MANY.into())?;
        batch(samples, &[PageOp::map(ME, PAGES, ME, OTHERS, MANY, Perms::WRITE)])?;
    }
    Ok(())
}

pub fn prot100(samples: &mut Samples) -> Result {
    for _ in 0..FEW {
        let _dirty = Dirty::new(PAGES, MANY)?;
        samples.time(|| sys::protect(ME, black_box(PAGES), MANY.into(), Perms::READ))?;
    }
    Ok(())
}

pub fn unprot100(samples: &mut Samples) -> Result {
    for _ in 0..FEW {
        let _dirty = Dirty::new(PAGES, MANY)?;
        sys::protect(ME, PAGES, MANY.into(), Perms::READ)?;
        samples.time(|| sys::protect(ME, black_box(PAGES), MANY.into(), Perms::WRITE))?;
    }
    Ok(())
}

pub fn unmap100(samples: &mut Samples) -> Result {
    for _ in 0..FEW {
        let _dirty = Dirty::new(PAGES, MANY)?;
        batch(samples, &[PageOp::unmap(ME, PAGES, MANY)])?;
    }
    Ok(())
}

/// Protects every other page, so that each is an operation of its own: two calls for all of them.
pub fn prot100_scattered(samples: &mut Samples) -> Result {
    let protect = |page| PageOp::protect(ME, page, 1, Perms::READ);
    let ops: Vec<PageOp> = run(PAGES, 2 * MANY).step_by(2).map(protect).collect();
    for _ in 0..FEW {
        let _dirty = Dirty::new(PAGES, 2 * MANY)?;
        batch(samples, &ops)?;
    }
    Ok(())
}

/// Reads the D bit of one entry.
pub fn dirty(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    for page in run(dirty.0, MANY) {
        let is_dirty = samples.time(|| black_box(uvpt::pte(black_box(page)).has(Pte::DIRTY)));
        assert!(is_dirty, "{page} was written");
    }
    Ok(())
}
