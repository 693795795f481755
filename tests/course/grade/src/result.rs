//! What came of a submission. Every format is made of this, and it is what is kept on disk.

use crate::expect::Unmet;
use serde::{Deserialize, Serialize};

/// How far a submission got.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub enum Status {
    /// It was built and run: the points say what it is worth.
    #[default]
    #[serde(rename = "graded")]
    Graded,
    /// The compiler did not accept it.
    #[serde(rename = "does not build")]
    NotBuilt,
    /// Files that are to be handed in are not there.
    #[serde(rename = "files missing")]
    FilesMissing,
    /// It is not what may be handed in, or nobody can tell what is meant.
    #[serde(rename = "refused")]
    Refused,
    /// An archive or a file is damaged, or the system does not let the grader read it.
    #[serde(rename = "unreadable")]
    Unreadable,
    /// The grader failed: this says nothing about the submission.
    #[serde(rename = "grader error")]
    GraderError,
}

impl Status {
    /// The words for it, in tables and files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Status::Graded => "graded",
            Status::NotBuilt => "does not build",
            Status::FilesMissing => "files missing",
            Status::Refused => "refused",
            Status::Unreadable => "unreadable",
            Status::GraderError => "grader error",
        }
    }

    /// A sentence for whoever handed it in, about why nothing could be run.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Status::Graded => "It was built and run.",
            Status::NotBuilt => "It does not build, so nothing could be run:",
            Status::FilesMissing => "Files are missing, so nothing could be run:",
            Status::Refused => "It cannot be accepted like this, so nothing could be run:",
            Status::Unreadable => "It cannot be read, so nothing could be run:",
            Status::GraderError => {
                "The grader failed, so nothing could be run; that is not the submission's fault:"
            }
        }
    }
}

/// What came of a submission.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Graded {
    /// Whose it is.
    pub name: String,
    /// What was graded, how, and against what, in one word.
    #[serde(default)]
    pub key: String,
    /// The lab, if only that was graded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lab: Option<String>,
    /// How far it got, unless a test says that the grader failed.
    #[serde(default)]
    pub status: Status,
    /// How long it took.
    pub seconds: f64,
    /// Why nothing could be run: what the compiler says, or what is wrong with the submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// How its files were packed, where that is not as it was told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packing: Vec<String>,
    /// What was done to the files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the verdict relies on, besides the kernel.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub relies_on: String,
    /// The tests, part by part.
    pub tests: Vec<TestResult>,
}

/// What came of a test.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct TestResult {
    /// The part that it belongs to.
    pub part: String,
    /// Its name.
    pub name: String,
    /// What it is worth.
    pub points: u32,
    /// Whether everything was as demanded.
    pub passed: bool,
    /// Students do not see why it failed.
    #[serde(default)]
    pub hidden: bool,
    /// How long it took.
    pub seconds: f64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The grader could not tell: this is not the student's fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Why a test failed.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, Debug)]
pub struct Failure {
    /// What was demanded and not met.
    pub unmet: Vec<Unmet>,
    /// What that may mean.
    pub hints: Vec<String>,
    /// Where the kernel, the program, or each environment was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<String>,
    /// The last lines of the console.
    pub console: Vec<String>,
    /// How many lines are before those.
    pub skipped: usize,
    /// Commands that repeat it.
    pub repeat: Vec<String>,
}

impl TestResult {
    /// The points that were reached.
    #[must_use]
    pub fn score(&self) -> u32 {
        if self.passed { self.points } else { 0 }
    }

    /// What a student may be told of a failure.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        match (&self.failure, &self.error) {
            _ if self.hidden && !self.passed => Some("(this test is hidden)".to_owned()),
            (_, Some(error)) => Some(format!("the grader could not run this: {error}")),
            (failure, None) => failure.as_ref().map(ToString::to_string),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.unmet.iter().try_for_each(|unmet| writeln!(f, "{unmet}"))?;
        self.hints.iter().try_for_each(|hint| writeln!(f, "hint: {hint}"))?;
        self.places.iter().try_for_each(|place| writeln!(f, "{place}"))?;
        writeln!(f, "the last lines of the console ({} before them):", self.skipped)?;
        self.console.iter().try_for_each(|line| writeln!(f, "  | {line}"))?;
        write!(f, "this repeats it:")?;
        self.repeat.iter().try_for_each(|command| write!(f, "\n  {command}"))
    }
}

impl Graded {
    /// Points reached, and points to be had.
    #[must_use]
    pub fn score(&self) -> (u32, u32) {
        total(self.tests.iter())
    }

    /// The same for each part, in order.
    #[must_use]
    pub fn parts(&self) -> Vec<(&str, (u32, u32))> {
        let mut parts: Vec<&str> = self.tests.iter().map(|test| test.part.as_str()).collect();
        parts.dedup();
        parts
            .into_iter()
            .map(|part| (part, total(self.tests.iter().filter(|test| test.part == part))))
            .collect()
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.tests.iter().all(|test| test.passed)
    }

    /// Whether the grader failed somewhere.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        self.status() == Status::GraderError
    }

    /// How far it got.
    #[must_use]
    pub fn status(&self) -> Status {
        let failed = self.tests.iter().any(|test| test.error.is_some());
        if failed { Status::GraderError } else { self.status }
    }
}

fn total<'a>(tests: impl Iterator<Item = &'a TestResult>) -> (u32, u32) {
    tests.fold((0, 0), |(score, points), test| (score + test.score(), points + test.points))
}
