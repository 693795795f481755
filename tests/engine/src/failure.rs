//! The explanation of a failed run.

use crate::expect::Unmet;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a run failed, and how to repeat it.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, Debug)]
pub struct Failure {
    /// The demands that were not met.
    pub unmet: Vec<Unmet>,
    /// Possible causes.
    pub hints: Vec<String>,
    /// The places where the kernel, the program, or each environment was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<String>,
    /// The last lines of the console.
    pub console: Vec<String>,
    /// How many lines come before those.
    pub skipped: usize,
    /// Commands that repeat the run.
    pub repeat: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.unmet.iter().try_for_each(|unmet| writeln!(f, "{unmet}"))?;
        self.hints.iter().try_for_each(|hint| writeln!(f, "hint: {hint}"))?;
        self.places.iter().try_for_each(|place| writeln!(f, "{place}"))?;
        writeln!(f, "the last lines of the console ({} before them):", self.skipped)?;
        self.console.iter().try_for_each(|line| writeln!(f, "  | {line}"))?;
        write!(f, "this repeats it:")?;
        self.repeat.iter().try_for_each(|command| write!(f, "\n  {command}"))
    }
}
