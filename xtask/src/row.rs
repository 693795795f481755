//! A row of the bench: what was counted for one operation.

use serde_json::{Value, json};

/// Instructions that zero or copy a page frame: one for each of 512 words.
const PER_FRAME: u64 = 512;

/// What was counted for one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// Instructions: the median of all samples.
    pub gross: u64,
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
    /// How many samples there were.
    pub samples: u64,
    /// Frames zeroed or copied.
    pub frames: u64,
    /// What dear instructions cost beyond one cycle each.
    pub surcharge: Option<u64>,
}

impl Row {
    /// Instructions that did something else than zero and copy frames.
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

    /// `row ID gross N min N max N samples N`
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
