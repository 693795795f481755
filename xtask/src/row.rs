//! A row of the bench: the counts for one operation.

use serde_json::{Value, json};

/// Instructions that zero or copy a page frame: one for each of 512 words.
pub const PER_FRAME: u64 = 512;

/// The counts for one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// Instructions: the median of all samples.
    pub gross: u64,
    /// The smallest sample.
    pub min: u64,
    /// The largest sample.
    pub max: u64,
    /// The number of samples.
    pub samples: u64,
    /// Frames zeroed or copied.
    pub frames: u64,
    /// The cost of expensive instructions beyond one cycle each.
    pub surcharge: Option<u64>,
}

impl Row {
    /// Instructions other than those that zero and copy frames.
    #[must_use]
    pub fn net(&self) -> u64 {
        self.gross.saturating_sub(PER_FRAME * self.frames)
    }

    /// Estimated cycles, frames left out.
    #[must_use]
    pub fn cycles(&self) -> Option<u64> {
        Some(self.net() + self.surcharge?)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "id": self.id, "net": self.net(), "gross": self.gross, "cycles": self.cycles(),
            "min": self.min, "max": self.max, "samples": self.samples,
        })
    }

    /// Parses `row ID gross N min N max N samples N`.
    pub(crate) fn parse(line: &str) -> Option<Row> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["row", id, "gross", gross, "min", min, "max", max, "samples", samples] = words[..] else {
            return None;
        };
        let number = |text: &str| text.parse().ok();
        Some(Row {
            id: id.to_owned(),
            gross: number(gross)?,
            min: number(min)?,
            max: number(max)?,
            samples: number(samples)?,
            frames: 0,
            surcharge: None,
        })
    }
}
