//! A row of the bench: the counts for one operation.
//!
//! The rows of many pages are told for one page, which may take less than one instruction. So their counts are for
//! [`PAGES`] pages.

use serde_json::{Value, json};

/// Instructions that zero or copy a page frame: one for each of 512 words.
pub const PER_FRAME: u64 = 512;

/// The pages for which the counts of a row of many pages are.
pub const PAGES: u64 = 100;

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
    /// The pages of a sample, in a row of many pages. The counts are then for [`PAGES`] of them.
    pub pages: Option<u64>,
    /// Frames zeroed or copied in a sample.
    pub frames: u64,
    /// The cost of expensive instructions beyond one cycle each.
    pub surcharge: Option<u64>,
    /// The percentage by which the counts of two runs may differ; 0 for a row that does not wait for the host.
    pub tolerance: u64,
}

impl Row {
    /// Instructions other than those that zero and copy frames.
    #[must_use]
    pub fn net(&self) -> u64 {
        self.gross.saturating_sub(self.scaled(PER_FRAME * self.frames))
    }

    /// A count of a sample, in the unit of this row.
    #[must_use]
    pub fn scaled(&self, count: u64) -> u64 {
        self.pages.map_or(count, |pages| count * PAGES / pages)
    }

    /// The instructions of a whole sample, about.
    #[must_use]
    pub fn whole(&self) -> u64 {
        self.pages.map_or(self.gross, |pages| self.gross * pages / PAGES)
    }

    /// The number of operations that a count is for: of pages, or 1.
    fn operations(&self) -> u64 {
        self.pages.map_or(1, |_| PAGES)
    }

    /// The instructions of one operation, if a sample has `count` of them.
    #[must_use]
    pub fn each(&self, count: u64) -> f64 {
        count as f64 / self.operations() as f64
    }

    /// The instructions of one operation as text, for a page with one decimal, if a sample has `count` of them.
    #[must_use]
    pub fn each_text(&self, count: u64) -> String {
        self.pages.map_or_else(|| count.to_string(), |_| format!("{:.1}", self.each(count)))
    }

    /// Estimated cycles, frames left out.
    #[must_use]
    pub fn cycles(&self) -> Option<u64> {
        Some(self.net() + self.surcharge?)
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut json = json!({
            "id": self.id, "net": self.net(), "gross": self.gross, "cycles": self.cycles(),
            "min": self.min, "max": self.max, "samples": self.samples,
        });
        if self.pages.is_some() {
            json["pages"] = PAGES.into();
        }
        if self.tolerance > 0 {
            json["tolerance"] = self.tolerance.into();
        }
        json
    }

    /// Parses `row ID gross N min N max N samples N`, with or without `pages N`.
    pub(crate) fn parse(line: &str) -> Option<Row> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["row", id, "gross", gross, "min", min, "max", max, "samples", samples, ref rest @ ..] = words[..] else {
            return None;
        };
        let number = |text: &str| text.parse().ok();
        let pages = match rest {
            [] => None,
            ["pages", pages] => Some(number(pages).filter(|pages| *pages > 0)?),
            _ => return None,
        };
        let (id, samples) = (id.to_owned(), number(samples)?);
        let row = Row { id, gross: 0, min: 0, max: 0, samples, pages, frames: 0, surcharge: None, tolerance: 0 };
        let [gross, min, max] = [number(gross)?, number(min)?, number(max)?].map(|count| row.scaled(count));
        Some(Row { gross, min, max, ..row })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_share_a_sample() {
        let row = Row::parse("row move gross 20100 min 19900 max 20300 samples 3 pages 16384").unwrap();
        let row = Row { frames: 32, ..row };
        assert_eq!((row.gross, row.min, row.max, row.net()), (122, 121, 123, 22));
        assert_eq!((row.each(row.net()), row.each_text(row.net())), (0.22, "0.2".to_owned()));
        assert_eq!(row.to_json()["pages"], 100);
    }

    #[test]
    fn other_samples_are_whole() {
        let row = Row::parse("row trap gross 84 min 84 max 90 samples 9").unwrap();
        assert_eq!((row.gross, row.pages, row.each_text(84)), (84, None, "84".to_owned()));
        assert!(row.to_json().get("pages").is_none());
        assert_eq!(Row::parse("row trap gross 84 min 84 max 90 samples 9 pages 0"), None);
        assert_eq!(Row::parse("row trap gross 84 min 84 max 90 samples 9 pages"), None);
    }
}
