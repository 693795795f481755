//! Demands on the output of a console. A demand that is not met says what was expected where, and what was there.

use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize};
use std::{collections::BTreeMap, fmt};

/// How many lines of the actual output are shown.
const SHOWN: usize = 3;

/// The length at which lines are cut.
const WIDTH: usize = 200;

/// A regular expression, checked when it is parsed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Pattern(pub String);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Pattern, D::Error> {
        let text = String::deserialize(from)?;
        Regex::new(&text).map_err(serde::de::Error::custom)?;
        Ok(Pattern(text))
    }
}

/// The demands of a test.
#[derive(Clone, Default, Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// The whole console: a pattern for each line, and nothing else.
    pub exactly: Option<Vec<Pattern>>,
    /// Patterns that lines match one after the other; other lines may be between them.
    pub order: Vec<Vec<Pattern>>,
    /// Like `order`, but each of the patterns matches one line only.
    pub once: Vec<Vec<Pattern>>,
    /// Patterns that exactly this many lines match.
    pub count: BTreeMap<Pattern, usize>,
    /// Patterns that at least this many lines match.
    pub at_least: BTreeMap<Pattern, usize>,
    /// Patterns that no line matches.
    pub never: Vec<Pattern>,
    /// Patterns that match equally many lines, and at least one.
    pub same: Vec<Vec<Pattern>>,
    /// For each line that matches, these patterns in this order; `<1>` is the text of the line's first group.
    pub each: Vec<Each>,
    /// Patterns whose first group has the same text in all lines, but for the first few.
    pub alike: Vec<Alike>,
    /// A pattern whose first groups are the prime numbers.
    pub primes: Option<Primes>,
}

/// See [`Expect::each`].
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Each {
    /// The pattern of the lines.
    pub line: Pattern,
    /// The patterns that each such line demands.
    pub order: Vec<Pattern>,
}

/// See [`Expect::alike`].
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Alike {
    /// The pattern of the lines.
    pub line: Pattern,
    /// How many of the first lines may differ.
    #[serde(default)]
    pub skip: usize,
}

/// See [`Expect::primes`].
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Primes {
    /// The pattern of the lines.
    pub line: Pattern,
    /// All primes up to this number must be there.
    pub up_to: u32,
    /// How many larger numbers may be there.
    #[serde(default)]
    pub beyond: usize,
}

/// A demand that was not met.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Unmet {
    /// The expectation, and its place.
    pub expected: String,
    /// The lines that were found instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<String>,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.expected)?;
        self.seen.iter().try_for_each(|line| write!(f, "\n  seen: {line}"))
    }
}

impl Unmet {
    /// An unmet demand about which nothing else can be said.
    pub fn new(expected: impl Into<String>) -> Unmet {
        Unmet { expected: expected.into(), seen: Vec::new() }
    }

    fn seeing(expected: String, lines: &[&str]) -> Unmet {
        let mut seen: Vec<String> = lines.iter().take(SHOWN).map(|line| clip(line)).collect();
        if seen.is_empty() {
            seen.push("(the end)".to_owned());
        }
        Unmet { expected, seen }
    }
}

/// The line, cut to the length that is shown.
#[must_use]
pub fn clip(line: &str) -> String {
    line.chars().take(WIDTH).collect()
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| panic!("a test has a bad pattern: {error}"))
}

/// The lines that match.
#[must_use]
pub fn matching<'a>(lines: &[&'a str], pattern: &str) -> Vec<&'a str> {
    let pattern = regex(pattern);
    lines.iter().copied().filter(|line| pattern.is_match(line)).collect()
}

/// Demands that exactly this many lines match.
#[must_use]
pub fn count(lines: &[&str], pattern: &str, expected: usize) -> Option<Unmet> {
    let found = matching(lines, pattern);
    let what = || format!("{expected} lines /{pattern}/ expected, {} found", found.len());
    (found.len() != expected).then(|| match found[..] {
        [] => Unmet::new(what()),
        _ => Unmet::seeing(what(), &found),
    })
}

/// Demands that no line matches.
#[must_use]
pub fn never(lines: &[&str], pattern: &str) -> Option<Unmet> {
    let found = matching(lines, pattern);
    (!found.is_empty()).then(|| Unmet::seeing(format!("no line /{pattern}/ expected"), &found))
}

/// Demands lines that match one after the other.
#[must_use]
pub fn order<P: AsRef<str>>(lines: &[&str], patterns: &[P]) -> Option<Unmet> {
    let mut next = 0;
    for pattern in patterns.iter().map(AsRef::as_ref) {
        let wanted = regex(pattern);
        match lines[next..].iter().position(|line| wanted.is_match(line)) {
            Some(found) => next += found + 1,
            None => {
                let place = match next {
                    0 => String::new(),
                    _ => format!(" after line {next}, \"{}\"", lines[next - 1]),
                };
                return Some(Unmet::seeing(format!("a line /{pattern}/ expected{place}"), &lines[next..]));
            }
        }
    }
    None
}

/// Demands a pattern for each line, and nothing else.
#[must_use]
pub fn exactly<P: AsRef<str>>(lines: &[&str], patterns: &[P]) -> Option<Unmet> {
    for (index, pattern) in patterns.iter().map(AsRef::as_ref).enumerate() {
        let fits = lines.get(index).is_some_and(|line| regex(&format!("^(?:{pattern})$")).is_match(line));
        if !fits {
            let rest = lines.get(index..).unwrap_or_default();
            return Some(Unmet::seeing(format!("/{pattern}/ expected as line {}", index + 1), rest));
        }
    }
    let surplus = lines.get(patterns.len()..).filter(|rest| !rest.is_empty())?;
    Some(Unmet::seeing(format!("no line expected after line {}", patterns.len()), surplus))
}

impl AsRef<str> for Pattern {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Expect {
    /// The demands that these lines do not meet.
    #[must_use]
    pub fn unmet(&self, lines: &[&str]) -> Vec<Unmet> {
        let mut unmet = Vec::new();
        unmet.extend(self.exactly.as_ref().and_then(|patterns| exactly(lines, patterns)));
        let several = self.once.iter().filter(|patterns| patterns.len() > 1);
        unmet.extend(self.order.iter().chain(several).filter_map(|patterns| order(lines, patterns)));
        let once = self.once.iter().flatten().map(|pattern| (pattern, &1));
        unmet.extend(once.chain(&self.count).filter_map(|(pattern, times)| count(lines, &pattern.0, *times)));
        unmet.extend(self.at_least.iter().filter_map(|(pattern, times)| at_least(lines, &pattern.0, *times)));
        unmet.extend(self.never.iter().filter_map(|pattern| never(lines, &pattern.0)));
        unmet.extend(self.same.iter().filter_map(|patterns| same(lines, patterns)));
        unmet.extend(self.each.iter().flat_map(|each| each.unmet(lines)));
        unmet.extend(self.alike.iter().filter_map(|alike| alike.unmet(lines)));
        unmet.extend(self.primes.as_ref().and_then(|primes| primes.unmet(lines)));
        unmet.dedup();
        unmet
    }

    /// These demands with changed patterns.
    #[must_use]
    pub fn map(&self, change: &impl Fn(&str) -> String) -> Expect {
        let one = |pattern: &Pattern| Pattern(change(&pattern.0));
        let list = |patterns: &Vec<Pattern>| patterns.iter().map(one).collect::<Vec<_>>();
        let lists = |all: &Vec<Vec<Pattern>>| all.iter().map(list).collect();
        let counts =
            |all: &BTreeMap<Pattern, usize>| all.iter().map(|(pattern, times)| (one(pattern), *times)).collect();
        Expect {
            exactly: self.exactly.as_ref().map(list),
            order: lists(&self.order),
            once: lists(&self.once),
            count: counts(&self.count),
            at_least: counts(&self.at_least),
            never: list(&self.never),
            same: lists(&self.same),
            each: self.each.iter().map(|each| Each { line: one(&each.line), order: list(&each.order) }).collect(),
            alike: self.alike.iter().map(|alike| Alike { line: one(&alike.line), ..*alike }).collect(),
            primes: self.primes.as_ref().map(|primes| Primes { line: one(&primes.line), ..*primes }),
        }
    }
}

fn at_least(lines: &[&str], pattern: &str, least: usize) -> Option<Unmet> {
    let found = matching(lines, pattern).len();
    (found < least).then(|| Unmet::new(format!("at least {least} lines /{pattern}/ expected, {found} found")))
}

fn same(lines: &[&str], patterns: &[Pattern]) -> Option<Unmet> {
    let counts: Vec<usize> = patterns.iter().map(|pattern| matching(lines, &pattern.0).len()).collect();
    let alike = counts.iter().all(|&count| count > 0 && count == counts[0]);
    let told = || patterns.iter().zip(&counts).map(|(pattern, count)| format!("{count} lines /{}/", pattern.0));
    (!alike).then(|| {
        Unmet::new(format!("equally many lines of each expected, found {}", told().collect::<Vec<_>>().join(", ")))
    })
}

/// The texts of the pattern's first group, line by line.
fn groups<'a>(lines: &[&'a str], pattern: &Pattern) -> Vec<&'a str> {
    let pattern = regex(&pattern.0);
    let group = |line: &&'a str| Some(pattern.captures(line)?.get(1)?.as_str());
    lines.iter().filter_map(group).collect()
}

impl Each {
    fn unmet(&self, lines: &[&str]) -> Vec<Unmet> {
        let fill = |group: &str| -> Vec<String> {
            self.order.iter().map(|pattern| pattern.0.replace("<1>", &regex::escape(group))).collect()
        };
        groups(lines, &self.line).iter().filter_map(|group| order(lines, &fill(group))).collect()
    }
}

impl Alike {
    fn unmet(&self, lines: &[&str]) -> Option<Unmet> {
        let found = groups(lines, &self.line);
        let found = found.get(self.skip..).unwrap_or_default();
        let alike = found.first().is_some_and(|first| found.iter().all(|other| other == first));
        (!alike).then(|| Unmet::new(format!("the same in all lines /{}/ expected, found {found:?}", self.line.0)))
    }
}

impl Primes {
    fn unmet(&self, lines: &[&str]) -> Option<Unmet> {
        let is_prime = |n: &u32| (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
        let primes = || (2..).filter(is_prime);
        let least = primes().take_while(|&n| n <= self.up_to).count();
        let found = groups(lines, &self.line);
        let wrong = found.iter().zip(primes()).find(|(found, prime)| **found != prime.to_string());
        let text = match wrong {
            Some((found, prime)) => format!("the prime {prime} expected, found {found}"),
            None if found.len() < least => format!("{least} primes expected, {} found", found.len()),
            None if found.len() > least + self.beyond => {
                format!("at most {} primes expected, {} found", least + self.beyond, found.len())
            }
            None => return None,
        };
        Some(Unmet::seeing(text, &matching(lines, &self.line.0).into_iter().rev().take(1).collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 5] = ["a 1", "b 2", "a 3", "p 2", "p 3"];

    fn unmet(demands: &str) -> Vec<String> {
        let expect: Expect = toml::from_str(demands).unwrap();
        expect.unmet(&LINES).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn demands_that_are_met() {
        let demands = [
            r#"exactly = ["a 1", "b .", "a 3", "p 2", "p 3"]"#,
            r#"order = [["1$", "2$", "3$"], ["a", "a"]]"#,
            r#"once = [["^b"]]"#,
            r#"count = { "^a" = 2 }"#,
            r#"at_least = { "^a" = 1 }"#,
            r#"never = ["c"]"#,
            r#"same = [["^a", "^p"]]"#,
            r#"each = [{ line = "^p (.)", order = ["^[ab] 1", "<1>$"] }]"#,
            r#"alike = [{ line = "^(.)", skip = 3 }]"#,
            r#"primes = { line = "^p (.)", up_to = 4 }"#,
        ];
        for demand in demands {
            assert_eq!(unmet(demand), Vec::<String>::new(), "{demand}");
        }
    }

    #[test]
    fn demands_that_are_not_met() {
        let demands = [
            (r#"exactly = ["a 1"]"#, "no line expected after line 1\n  seen: b 2\n  seen: a 3\n  seen: p 2"),
            (r#"exactly = ["a"]"#, "/a/ expected as line 1\n  seen: a 1\n  seen: b 2\n  seen: a 3"),
            (r#"order = [["p 2", "1$"]]"#, "a line /1$/ expected after line 4, \"p 2\"\n  seen: p 3"),
            (r#"order = [["p 3", "x"]]"#, "a line /x/ expected after line 5, \"p 3\"\n  seen: (the end)"),
            (r#"once = [["^b", "^p"]]"#, "1 lines /^p/ expected, 2 found\n  seen: p 2\n  seen: p 3"),
            (r#"count = { "c" = 2 }"#, "2 lines /c/ expected, 0 found"),
            (r#"at_least = { "^a" = 3 }"#, "at least 3 lines /^a/ expected, 2 found"),
            (r#"never = ["b"]"#, "no line /b/ expected\n  seen: b 2"),
            (r#"same = [["^a", "^b"]]"#, "equally many lines of each expected, found 2 lines /^a/, 1 lines /^b/"),
            (r#"same = [["c"]]"#, "equally many lines of each expected, found 0 lines /c/"),
            (
                r#"each = [{ line = "^p (.)", order = ["p 3", "<1>$"] }]"#,
                "a line /2$/ expected after line 5, \"p 3\"\n  seen: (the end)",
            ),
            (
                r#"alike = [{ line = "^(.)" }]"#,
                "the same in all lines /^(.)/ expected, found [\"a\", \"b\", \"a\", \"p\", \"p\"]",
            ),
            (r#"primes = { line = "^p (.)", up_to = 5 }"#, "3 primes expected, 2 found\n  seen: p 3"),
            (r#"primes = { line = "^p (.)", up_to = 2 }"#, "at most 1 primes expected, 2 found\n  seen: p 3"),
            (r#"primes = { line = "^a (.)", up_to = 2 }"#, "the prime 2 expected, found 1\n  seen: a 3"),
        ];
        for (demand, told) in demands {
            let unmet = unmet(demand);
            assert!(unmet.iter().any(|text| text == told), "{demand}: {unmet:?}");
        }
    }
}
