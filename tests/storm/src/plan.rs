//! The plan of a run: the arguments of the program `storm`.

use crate::EPISODE;
use core::fmt;

/// The resources of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Everything is plentiful.
    Plenty = 0,
    /// Only [`SPARE_FRAMES`] page frames are free.
    Tight = 1,
    /// Only [`SPARE_SLOTS`] slots for environments are free.
    Crowd = 2,
}

/// The machine's memory, as on the command line. It is small, so that there is little to check.
pub const MEMORY: &str = "16M";

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Mode::Plenty => "plenty",
            Mode::Tight => "tight",
            Mode::Crowd => "crowd",
        })
    }
}

/// Free frames of a run in [`Mode::Tight`].
pub const SPARE_FRAMES: u64 = 40;
/// Free slots of a run in [`Mode::Crowd`].
pub const SPARE_SLOTS: usize = 5;

/// The set of operations of an episode that are played.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keep(pub [u8; EPISODE as usize / 8]);

impl Keep {
    /// All operations.
    pub const ALL: Keep = Keep([0xff; EPISODE as usize / 8]);

    /// Whether this operation is played.
    #[must_use]
    pub fn has(&self, index: u32) -> bool {
        self.0[index as usize / 8] & 1 << (index % 8) != 0
    }

    /// Sets whether this operation is played.
    pub fn set(&mut self, index: u32, keep: bool) {
        let bit = 1 << (index % 8);
        let byte = &mut self.0[index as usize / 8];
        *byte = if keep { *byte | bit } else { *byte & !bit };
    }

    /// The indices of the operations that are played.
    pub fn indices(&self) -> impl Iterator<Item = u32> {
        (0..EPISODE).filter(|&index| self.has(index))
    }
}

/// A run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names say it
pub struct Plan {
    pub mode: Mode,
    pub seed: u64,
    /// The first episode.
    pub first: u32,
    pub episodes: u32,
    /// Whether to print a line for each operation, and one for the visible state after it.
    pub verbose: bool,
    pub keep: Keep,
}

impl Plan {
    /// Parses the words that [`Display`](fmt::Display) prints.
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Plan> {
        let mode = match words.next()? {
            "plenty" => Mode::Plenty,
            "tight" => Mode::Tight,
            "crowd" => Mode::Crowd,
            _ => return None,
        };
        let (seed, first) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let episodes = words.next()?.parse().ok()?;
        let mut keep = Keep::ALL;
        let verbose = words.next() == Some("verbose");
        if let Some(kept) = words.next() {
            keep = Keep([0; EPISODE as usize / 8]);
            for index in kept.split(',') {
                keep.set(index.parse().ok().filter(|&index| index < EPISODE)?, true);
            }
        }
        Some(Plan { mode, seed, first, episodes, verbose, keep })
    }
}

/// Prints the words that the program `storm` takes.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {} {} {}", self.mode, self.seed, self.first, self.episodes)?;
        if self.verbose {
            f.write_str(" verbose")?;
        }
        if self.verbose && self.keep != Keep::ALL {
            for (place, index) in self.keep.indices().enumerate() {
                write!(f, "{}{index}", if place == 0 { " " } else { "," })?;
            }
        }
        Ok(())
    }
}
