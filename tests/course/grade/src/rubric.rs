//! The rubric: the types of `tests/course/rubric.toml`.

use abi::window::CpuInfo;
use anyhow::{Context, Result, bail, ensure};
use engine::Request;
use engine::expect::{Expect, Pattern};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::{fs, path::Path, time::Duration};
use xtask::machine::{CommandLine, Machine, Memory};
use xtask::workspace::near;

/// The path of the rubric in the workspace.
pub const PATH: &str = "tests/course/rubric.toml";
/// The limit of ticks for a test on one processor; each tick is a million instructions.
const TICKS: u64 = 2_000;
/// The limit of ticks for a test on several processors, where a tick is a millisecond, or longer on a busy host.
const TICKS_OF_MANY: u64 = 120_000;
/// The time limit of a run, as the last resort: for a kernel whose timer has stopped.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// How often a run is tried if the grader gets no verdict.
const TRIES: u32 = 2;

/// All gradable tests, in labs and parts.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Rubric {
    /// The files that students may change if no lab is named: patterns.
    #[serde(default)]
    pub files: Vec<String>,
    /// The labs, in the order in which a course has them.
    #[serde(default, rename = "lab")]
    pub labs: Vec<Lab>,
    /// The parts, in the order in which they are printed.
    #[serde(default, rename = "part")]
    pub parts: Vec<Part>,
    /// Patterns of failures, in addition to the built-in ones.
    #[serde(default, rename = "hint")]
    pub hints: Vec<Rule>,
}

/// A lab: the files that students change, and the tests that grade them.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Lab {
    /// Its name on the command line.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// The path of its text in the workspace.
    pub text: String,
    /// The files that students may change, in the workspace.
    pub files: Vec<String>,
    /// The tests that are graded.
    pub tests: Vec<String>,
}

/// A part: tests whose points are added up.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name: a letter.
    pub id: String,
    /// Its heading.
    #[serde(default)]
    pub title: String,
    /// Its tests.
    #[serde(default, rename = "test")]
    pub tests: Vec<Test>,
}

/// A test: the program to boot, the machine, and the demands.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Its name.
    pub name: String,
    /// The program; without it, the program with the name of the test.
    pub program: Option<String>,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Programs and other members of the archive that it needs. No others are built.
    #[serde(default)]
    pub with: Vec<String>,
    /// Its points.
    pub points: u32,
    /// The number of processors. With one, time counts instructions, so every run is the same.
    #[serde(default = "one")]
    pub cpus: u32,
    /// The amount of memory.
    #[serde(default, deserialize_with = "memory")]
    pub memory: Option<Memory>,
    /// Microseconds between timer ticks.
    pub tick: Option<u64>,
    /// The limit of ticks after which the machine ends.
    pub ticks: Option<u64>,
    /// The exit status: 64 + N if exception N kills the program.
    #[serde(default)]
    pub status: u8,
    /// The demands on the console.
    #[serde(default)]
    pub see: Expect,
    /// A hint for failures.
    pub hint: Option<String>,
    /// Whether students do not see why it failed.
    #[serde(default)]
    pub hidden: bool,
    /// Values for `<name>` in arguments and patterns. If a course wants variants, each student gets one of these sets;
    /// else everybody gets the first.
    #[serde(default)]
    pub variants: Vec<BTreeMap<String, String>>,
}

/// A pattern of failures, and its explanation.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A pattern for a line of the console, or for an unmet demand.
    pub when: Pattern,
    /// The tests to which the rule is limited; empty: all.
    #[serde(default)]
    pub tests: Vec<String>,
    /// The hint; `$1` is the text of the first group.
    pub say: String,
}

fn one() -> u32 {
    1
}

fn memory<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Memory>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(|error| serde::de::Error::custom(format!("`{text}`: {error:#}")))
}

impl Rubric {
    /// Reads the rubric of this workspace.
    ///
    /// # Errors
    /// The rubric cannot be read, or has a mistake; the message names its line.
    pub fn load(root: &Path) -> Result<Rubric> {
        Rubric::read(&root.join(PATH))
    }

    /// Reads a rubric from this file.
    ///
    /// # Errors
    /// See [`Rubric::load`].
    pub fn read(path: &Path) -> Result<Rubric> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Rubric::parse(&text).with_context(|| format!("{} has a mistake", path.display()))
    }

    /// Parses a rubric.
    ///
    /// # Errors
    /// The text has a mistake.
    pub fn parse(text: &str) -> Result<Rubric> {
        let rubric: Rubric = toml::from_str(text)?;
        rubric.check(text)?;
        Ok(rubric)
    }

    /// Adds a rubric that only the staff has: tests that students do not see.
    ///
    /// # Errors
    /// A name is taken.
    pub fn add_hidden(&mut self, hidden: Rubric) -> Result<()> {
        self.hints.extend(hidden.hints);
        for mut part in hidden.parts {
            part.tests.iter_mut().for_each(|test| test.hidden = true);
            match self.parts.iter_mut().find(|known| known.id == part.id) {
                Some(known) => known.tests.extend(part.tests),
                None => self.parts.push(part),
            }
        }
        self.check("")
    }

    /// The lab of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn lab(&self, name: &str) -> Result<&Lab> {
        lab(&self.labs, name)
    }

    /// All tests, each with its part.
    pub fn tests(&self) -> impl Iterator<Item = (&Part, &Test)> {
        self.parts.iter().flat_map(|part| part.tests.iter().map(move |test| (part, test)))
    }

    /// The test of this name.
    #[must_use]
    pub fn test(&self, name: &str) -> Option<&Test> {
        self.tests().map(|(_, test)| test).find(|test| test.name == name)
    }

    /// Selects tests: of all, or of a lab with the hidden ones, those whose names contain one of the words. A word that
    /// is the name of a test selects that test alone.
    ///
    /// # Errors
    /// A word matches no test.
    pub fn select(&self, lab: Option<&Lab>, words: &[String]) -> Result<Vec<(String, Test)>> {
        let in_lab = |test: &Test| lab.is_none_or(|lab| test.hidden || lab.tests.contains(&test.name));
        let offered: Vec<_> = self.tests().filter(|(_, test)| in_lab(test)).collect();
        let is_name = |word: &String| offered.iter().any(|(_, test)| test.name == *word);
        let fits = |test: &Test, word: &String| test.name == *word || !is_name(word) && test.name.contains(word);
        if let Some(word) = words.iter().find(|word| !offered.iter().any(|(_, test)| fits(test, word))) {
            let names: Vec<&str> = offered.iter().map(|(_, test)| test.name.as_str()).collect();
            bail!(self.refusal(word, &names));
        }
        let chosen = offered.iter().filter(|(_, test)| words.is_empty() || words.iter().any(|w| fits(test, w)));
        let chosen: Vec<_> = chosen.map(|(part, test)| (part.id.clone(), Test::clone(test))).collect();
        ensure!(!chosen.is_empty(), "{} has no tests", lab.map_or("the rubric", |lab| &lab.name));
        Ok(chosen)
    }

    /// The error message for a word that matches none of the offered tests: it may match tests of another lab.
    fn refusal(&self, word: &str, offered: &[&str]) -> String {
        let similar = || self.tests().map(|(_, test)| test).find(|test| test.name.contains(word));
        let Some(Test { name, .. }) = self.test(word).or_else(similar) else {
            return format!("there is no test `{word}`{}", near(word, offered));
        };
        match self.labs.iter().find(|lab| lab.tests.contains(name)) {
            Some(Lab { name: lab, .. }) => {
                format!("the test `{name}` belongs to another lab: `cargo xtask grade --lab {lab} {name}`")
            }
            None => format!("the test `{name}` belongs to no lab: `cargo xtask grade {name}`"),
        }
    }

    /// Checks what the types cannot express.
    fn check(&self, text: &str) -> Result<()> {
        let mut names = BTreeSet::new();
        for (_, test) in self.tests() {
            let line = line_of(text, &test.name);
            ensure!(names.insert(&test.name), "{line}two tests are called `{}`", test.name);
            ensure!(
                (1..=CpuInfo::MAX as u32).contains(&test.cpus),
                "{line}{} processors for `{}`: 1 to {}",
                test.cpus,
                test.name,
                CpuInfo::MAX
            );
            ensure!(test.status < 128, "{line}status {} for `{}`: 0 to 127", test.status, test.name);
        }
        for lab in &self.labs {
            if let Some(name) = lab.tests.iter().find(|name| !names.contains(name)) {
                bail!("{}the lab `{}` names a test `{name}`: there is none", line_of(text, &lab.name), lab.name);
            }
        }
        Ok(())
    }
}

/// The lab of this name among these.
///
/// # Errors
/// There is none.
pub fn lab<'a>(labs: &'a [Lab], name: &str) -> Result<&'a Lab> {
    let names: Vec<&str> = labs.iter().map(|lab| lab.name.as_str()).collect();
    let lab = labs.iter().find(|lab| lab.name == name);
    lab.with_context(|| format!("there is no lab `{name}`; the labs are {}", names.join(", ")))
}

/// The number of the last line that defines this name, as the beginning of a message.
fn line_of(text: &str, name: &str) -> String {
    let wanted = format!("name = \"{name}\"");
    let line = text.lines().enumerate().filter(|(_, line)| line.trim() == wanted).last();
    line.map_or(String::new(), |(index, _)| format!("line {}: ", index + 1))
}

impl Test {
    /// The name of the program.
    #[must_use]
    pub fn program(&self) -> &str {
        self.program.as_deref().unwrap_or(&self.name)
    }

    /// All programs that must be built for it.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        [self.program()].into_iter().chain(self.with.iter().map(String::as_str))
    }

    /// What to boot. The kernel ends a test that hangs, and signs its lines.
    #[must_use]
    pub fn request(&self) -> Request {
        let standard = Machine::default();
        let memory = self.memory.unwrap_or(standard.memory);
        let line = CommandLine {
            init: self.program().to_owned(),
            args: self.args.clone(),
            trace: true,
            tick_us: self.tick,
            limit: Some(self.ticks.unwrap_or(if self.cpus == 1 { TICKS } else { TICKS_OF_MANY })),
            sign: true,
            provoke: None,
        };
        Request {
            line,
            machine: Machine { cpus: self.cpus, memory, icount: self.cpus == 1, ..standard },
            timeout: TIMEOUT,
            tries: TRIES,
            ..Request::of(self.program())
        }
    }

    /// The test with its variables filled in: the variant is chosen by `draw`.
    #[must_use]
    pub fn varied(&self, draw: u64) -> Test {
        let Some(count) = u64::try_from(self.variants.len()).ok().filter(|&count| count > 0) else {
            return self.clone();
        };
        self.filled(&self.variants[(draw % count) as usize])
    }

    /// The test with these values for its variables.
    #[must_use]
    pub fn filled(&self, values: &BTreeMap<String, String>) -> Test {
        let fill = |text: &str| {
            values.iter().fold(text.to_owned(), |text, (key, value)| text.replace(&format!("<{key}>"), value))
        };
        let args = self.args.iter().map(|arg| fill(arg)).collect();
        Test { args, see: self.see.map(&fill), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"
[[part]]
id = "A"
[[part.test]]
name = "one"
points = 5
args = ["<n>"]
see.once = [["^<n> pages$"]]
variants = [{ n = "8" }, { n = "16" }]
[[part.test]]
name = "another"
points = 3
"#;

    fn mistake(text: &str) -> String {
        format!("{:#}", Rubric::parse(text).unwrap_err())
    }

    #[test]
    fn mistakes_have_lines() {
        assert!(mistake("[[part]]\nid = 3\n").contains("line 2"));
        let unknown = mistake(&TWO.replace("points = 3", "point = 3"));
        assert!(unknown.contains("line 12") && unknown.contains("point"), "{unknown}");
        let pattern = mistake(&TWO.replace("pages$", "(pages"));
        assert!(pattern.contains("line 8") && pattern.contains("unclosed group"), "{pattern}");
        let twice = mistake(&TWO.replace("another", "one"));
        assert!(twice.contains("line 11") && twice.contains("`one`"), "{twice}");
        let memory = mistake(&format!("{TWO}memory = \"lots\""));
        assert!(memory.contains("line 13") && memory.contains("lots"), "{memory}");
        let lab = "[[lab]]\nname = \"x\"\ntitle = \"\"\ntext = \"\"\nfiles = []\ntests = [\"gone\"]\n";
        let lab = mistake(&format!("{lab}{TWO}"));
        assert!(lab.contains("line 2") && lab.contains("`gone`"), "{lab}");
    }

    #[test]
    fn words_choose_tests() {
        let rubric = Rubric::parse(TWO).unwrap();
        let names = |words: &[&str]| -> Vec<String> {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            rubric.select(None, &words).unwrap().into_iter().map(|(_, test)| test.name).collect()
        };
        assert_eq!(names(&[]), ["one", "another"]);
        assert_eq!(names(&["o"]), ["one", "another"]);
        assert_eq!(names(&["one"]), ["one"]);
        let error = rubric.select(None, &["anther".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "there is no test `anther`; similar: another");
    }

    #[test]
    fn a_lab_has_its_own_tests_and_the_hidden_ones() {
        let lab = "[[lab]]\nname = \"x\"\ntitle = \"\"\ntext = \"\"\nfiles = []\ntests = [\"another\"]\n";
        let mut rubric = Rubric::parse(&format!("{lab}{TWO}")).unwrap();
        rubric
            .add_hidden(Rubric::parse("[[part]]\nid = \"A\"\n[[part.test]]\nname = \"secret\"\npoints = 1").unwrap())
            .unwrap();
        let chosen = rubric.select(Some(&rubric.labs[0]), &[]).unwrap();
        let names: Vec<_> =
            chosen.iter().map(|(part, test)| (part.as_str(), test.name.as_str(), test.hidden)).collect();
        assert_eq!(names, [("A", "another", false), ("A", "secret", true)]);
        let error = rubric.select(Some(&rubric.labs[0]), &["one".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "the test `one` belongs to no lab: `cargo xtask grade one`");
        let theirs = Lab { name: "y".to_owned(), tests: vec!["one".to_owned()], ..rubric.labs[0].clone() };
        rubric.labs.push(theirs);
        let error = rubric.select(Some(&rubric.labs[0]), &["on".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "the test `one` belongs to another lab: `cargo xtask grade --lab y one`");
        let taken = Rubric::parse("[[part]]\nid = \"B\"\n[[part.test]]\nname = \"one\"\npoints = 1").unwrap();
        assert!(rubric.add_hidden(taken).is_err());
    }

    #[test]
    fn variants_fill_in() {
        let rubric = Rubric::parse(TWO).unwrap();
        let test = rubric.test("one").unwrap();
        let args = [0, 1, 2].map(|draw| test.varied(draw).args[0].clone());
        assert_eq!(args, ["8", "16", "8"]);
        assert!(test.varied(1).see.unmet(&["16 pages"]).is_empty());
        assert!(!test.varied(0).see.unmet(&["16 pages"]).is_empty());
    }

    #[test]
    fn the_classic_points_are_five_each() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let rubric = Rubric::load(&root).unwrap();
        let points = |id: &str| -> Vec<u32> {
            let part = rubric.parts.iter().find(|part| part.id == id).unwrap();
            part.tests.iter().map(|test| test.points).collect()
        };
        assert_eq!([points("A"), points("B"), points("C")], [vec![5; 1], vec![5; 10], vec![5; 5]]);
    }
}
