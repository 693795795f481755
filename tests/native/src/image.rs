//! A Faultline program in the memory of this process, at its linked addresses.

use abi::PAGE_SIZE;
use anyhow::{Context, Result, bail};
use object::{Object, ObjectSegment, ObjectSymbol};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use std::collections::BTreeMap;
use std::path::Path;

/// A loaded program. It stays until the process ends.
pub struct Image {
    symbols: BTreeMap<String, u64>,
}

impl Image {
    /// Loads a program.
    ///
    /// # Errors
    /// Its file cannot be read, or its addresses are taken.
    pub fn load(path: &Path) -> Result<Image> {
        let data = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = object::File::parse(&*data).with_context(|| format!("{}", path.display()))?;
        for segment in file.segments() {
            let bytes = segment.data().context("a segment without data")?;
            let start = segment.address() & !(PAGE_SIZE - 1);
            let end = (segment.address() + segment.size()).next_multiple_of(PAGE_SIZE);
            let memory = map(start, end - start)?;
            let offset = (segment.address() - start) as usize;
            // SAFETY: fresh memory, at least as long as the segment, and nobody refers to it.
            unsafe { memory.add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
        let named = |symbol: object::Symbol| Some((symbol.name().ok()?.to_owned(), symbol.address()));
        Ok(Image { symbols: file.symbols().filter_map(named).collect() })
    }

    /// The address of the one symbol whose name contains this.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn symbol(&self, part: &str) -> Result<u64> {
        let found: Vec<_> = self.symbols.iter().filter(|(name, _)| name.contains(part)).collect();
        match found[..] {
            [(_, address)] => Ok(*address),
            _ => bail!("one symbol with `{part}` in its name expected, found {found:x?}"),
        }
    }
}

/// Maps memory at an address, which may be read, written and executed.
pub fn map(start: u64, bytes: u64) -> Result<*mut u8> {
    let all = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
    // SAFETY: nothing else of this process is there, or the call fails.
    let memory = unsafe { mmap_anonymous(start as *mut _, bytes as usize, all, flags) };
    Ok(memory.with_context(|| format!("no memory of {bytes} bytes at {start:#x}"))?.cast())
}
