//! The costs of other systems for the rows of the bench, printed beside ours.
//!
//! The figures are in `tests/comparison.json`, as text: some are rounded, some have a remark. `docs/lecture.md`
//! explains their origin.

use crate::row::Row;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fmt::Write as _;

/// One row of figures of other systems.
#[derive(Clone, PartialEq, Debug)]
pub struct Figures {
    row: String,
    /// The other systems' figures include frames that are zeroed or copied, so ours is the gross count.
    gross: bool,
    linux: String,
    /// Linux, where 2 MiB of memory may be one large page.
    huge: String,
    jos: String,
    /// The target of this system.
    aim: f64,
}

impl Figures {
    fn parse(value: &Value) -> Option<Figures> {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let gross = match value["figure"].as_str()? {
            "gross" => true,
            "net" => false,
            _ => return None,
        };
        let aim = value["aim"].as_f64()?;
        let (linux, huge, jos) = (text("linux")?, text("huge")?, text("jos")?);
        Some(Figures { row: text("row")?, gross, linux, huge, jos, aim })
    }

    fn line(&self, row: &Row) -> String {
        let ours = if self.gross { row.gross } else { row.net() };
        let times = |text| count(text).map_or("-".to_owned(), |theirs| format!("{:.1}", theirs / row.each(ours)));
        format!(
            "{:22} {:>26} {:>17} {:>16} {:>10} {:5} {:>10} {:>8} {:>8}",
            self.row,
            self.linux,
            self.huge,
            self.jos,
            row.each_text(ours),
            if self.gross { "gross" } else { "net" },
            times(&self.linux),
            times(&self.jos),
            self.aim
        )
    }
}

/// The count in a figure like `about 19 million` or `1,373,176 (100 calls)`.
fn count(figure: &str) -> Option<f64> {
    let figure = figure.split(" (").next()?.trim_start_matches("about ");
    let (figure, unit) = figure.strip_suffix(" million").map_or((figure, 1.0), |millions| (millions, 1e6));
    figure.replace(',', "").parse().ok().map(|count: f64| count * unit)
}

/// Loads all figures of other systems.
///
/// # Errors
/// The file cannot be read, or has another form.
pub fn load(workspace: &Workspace) -> Result<Vec<Figures>> {
    let path = workspace.root.join("tests/comparison.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let rows: Vec<Value> = serde_json::from_str(&text).context("the comparison is not a JSON array")?;
    rows.iter().map(|row| Figures::parse(row).with_context(|| format!("not a row of the comparison: {row}"))).collect()
}

/// The rows that other systems have too, as lines; empty if there are none.
#[must_use]
pub fn table(others: &[Figures], rows: &[Row]) -> String {
    let mut lines = String::new();
    for other in others {
        if let Some(row) = rows.iter().find(|row| row.id == other.row) {
            let _ = writeln!(lines, "{}", other.line(row));
        }
    }
    if lines.is_empty() {
        return lines;
    }
    let head = format!(
        "{:22} {:>26} {:>17} {:>16} {:>10} {:5} {:>10} {:>8} {:>8}",
        "", "Linux", "with huge pages", "JOS, best", "ours", "", "Linux/ours", "JOS/ours", "aim"
    );
    format!("{head}\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(id: &str, gross: u64, frames: u64) -> Row {
        Row {
            id: id.into(),
            gross,
            min: gross,
            max: gross,
            samples: 1,
            pages: None,
            frames,
            surcharge: None,
            tolerance: 0,
        }
    }

    fn figures(id: &str, figure: &str, linux: &str, jos: &str) -> Figures {
        let value = json!({"row": id, "figure": figure, "linux": linux, "huge": "-", "jos": jos, "aim": 90});
        Figures::parse(&value).unwrap()
    }

    #[test]
    fn remarks_are_not_counted() {
        assert_eq!(count("323"), Some(323.0));
        assert_eq!(count("1,373,176 (100 calls)"), Some(1_373_176.0));
        assert_eq!(count("about 3,870"), Some(3870.0));
        assert_eq!(count("about 19 million"), Some(19e6));
        assert_eq!(count("-"), None);
    }

    #[test]
    fn rows_stand_beside_ours() {
        let others = [figures("fault", "net", "1,000 (slow)", "-"), figures("fork", "gross", "about 3 million", "500")];
        let rows = [row("fork", 1000, 1), row("other", 7, 0), row("fault", 1012, 1)];
        let table = table(&others, &rows);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["fault", "1,000", "(slow)", "-", "-", "500", "net", "2.0", "-", "90"]);
        assert_eq!(lines[2], ["fork", "about", "3", "million", "-", "500", "1000", "gross", "3000.0", "0.5", "90"]);
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_page_may_take_less_than_one() {
        let value = json!({"row": "a", "figure": "net", "linux": "133", "huge": "0.94", "jos": "-", "aim": 0.9});
        let row = Row { pages: Some(16384), ..row("a", 190, 0) };
        let table = table(&[Figures::parse(&value).unwrap()], &[row]);
        let words: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["a", "133", "0.94", "-", "1.9", "net", "70.0", "-", "0.9"]);
    }

    #[test]
    fn nothing_known_is_nothing_said() {
        assert_eq!(table(&[figures("fault", "net", "1", "1")], &[row("other", 7, 0)]), "");
    }

    #[test]
    fn the_file_can_be_read() {
        let others = load(&Workspace::load().unwrap()).unwrap();
        assert!(others.len() >= 20);
        for figure in others.iter().flat_map(|other| [&other.linux, &other.huge, &other.jos]) {
            assert!(figure == "-" || count(figure).is_some(), "{figure}");
        }
        assert_eq!(
            Figures::parse(&json!({"row": "x", "figure": "mean", "linux": "", "huge": "", "jos": "", "aim": 1})),
            None
        );
    }
}
