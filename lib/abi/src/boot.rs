//! The interface between the kernel and the host tools: boot command line, exit codes, report, boot archive.
//!
//! The boot command line is a list of words: `init=NAME` (the first program, a member of the boot archive), `trace`
//! (print the life of environments), `tick=MICROSECONDS` (0: the timer stays off), `nonce=TEXT` (repeated in the
//! report), `sign` (the kernel's lines begin with the nonce, which no program knows), `limit=TICKS` (print where each
//! environment is, and end the machine). The arguments of the first program follow a final `--`, each behind
//! [`ARG_SEPARATOR`].
//!
//! More words inject faults, for tests: `panic` (panic at once), and, in a checking kernel only, `hold-twice`
//! (processors take environments that others hold), `break-entries` (a debug exception interrupts every system call
//! before its first instruction) and `late=N` (the processor whose local APIC has the id N starts too late).

/// The character before each argument of the first program on the boot command line.
pub const ARG_SEPARATOR: char = '\x1f';

/// The mark that ends the words for the kernel.
pub const ARGS_MARK: &str = " --";

/// The default time between timer ticks, in microseconds.
pub const DEFAULT_TICK_US: u64 = 1000;

/// Writing [`exit_code`] to this port ends the emulator (`-device isa-debug-exit`).
pub const EXIT_PORT: u16 = 0xf4;

/// The port of the kernel's report (`-chardev`/`-device isa-debugcon`): lines of `key=value` words, out of reach of
/// user programs.
///
/// The first line, `faultline-ready nonce=TEXT`, comes when the console listens: earlier input is lost. The last one
/// is `faultline nonce=TEXT status=N free_start=N free_end=N longest=N`: the number of free frames before the first
/// environment was made and when the machine ended, and the longest kernel entry.
pub const REPORT_PORT: u16 = 0xe9;

/// The word to write to [`EXIT_PORT`] for an exit status.
///
/// The emulator then exits with `2 * word + 1`. Inverting the status keeps code 1, the emulator's
/// own "could not start", apart from every status.
#[must_use]
pub const fn exit_code(status: u8) -> u32 {
    (status ^ 0x7f) as u32 & 0x7f
}

/// The exit status that an exit code of the emulator stands for, if any.
#[must_use]
pub const fn status_of_exit(code: i32) -> Option<u8> {
    if code > 1 && code < 256 && code % 2 == 1 { Some((code / 2) as u8 ^ 0x7f) } else { None }
}

/// The name of the first member of the boot archive: an index for programs, with an [`IndexEntry`] for each of the
/// others, in the order of their names. The kernel does not need it.
pub const INDEX: &str = ".index";
/// The offset of the index's contents in the archive: the first page boundary behind its header.
pub const INDEX_OFFSET: u64 = crate::PAGE_SIZE;

/// The name and place of a file in the boot archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexEntry<'a> {
    /// The name, at most [`IndexEntry::NAME_MAX`] bytes.
    pub name: &'a [u8],
    /// The offset of the first byte from the start of the archive: a multiple of the page size.
    pub offset: u64,
    /// The length in bytes.
    pub bytes: u64,
}

impl<'a> IndexEntry<'a> {
    /// The size of an entry in bytes.
    pub const SIZE: usize = 64;
    /// The longest name that fits.
    pub const NAME_MAX: usize = IndexEntry::SIZE - 16;

    /// The stored form: the name, padded with zeros, and the two numbers.
    ///
    /// # Panics
    /// If the name is too long.
    #[must_use]
    pub fn encode(&self) -> [u8; IndexEntry::SIZE] {
        let mut stored = [0; IndexEntry::SIZE];
        stored[..IndexEntry::NAME_MAX][..self.name.len()].copy_from_slice(self.name);
        stored[IndexEntry::NAME_MAX..][..8].copy_from_slice(&self.offset.to_le_bytes());
        stored[IndexEntry::NAME_MAX + 8..].copy_from_slice(&self.bytes.to_le_bytes());
        stored
    }

    /// The entry with this stored form.
    #[must_use]
    pub fn decode(stored: &'a [u8; IndexEntry::SIZE]) -> IndexEntry<'a> {
        let (name, numbers) = stored.split_at(IndexEntry::NAME_MAX);
        let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        let number = |at: usize| numbers[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        IndexEntry { name: &name[..len], offset: number(0), bytes: number(8) }
    }
}
