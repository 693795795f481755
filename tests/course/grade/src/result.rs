//! The result of a submission. All formats are made from it, and it is stored on disk.

use engine::Failure;
use serde::{Deserialize, Serialize};

/// How far a submission got.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub enum Status {
    /// The submission was built and run: the points are its worth.
    #[default]
    #[serde(rename = "graded")]
    Graded,
    /// The compiler rejected it.
    #[serde(rename = "does not build")]
    NotBuilt,
    /// Required files are missing.
    #[serde(rename = "files missing")]
    FilesMissing,
    /// The submission is not acceptable, or its meaning is unclear.
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
    /// The name of the status, in tables and files.
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

    /// A sentence for the student, about why nothing could be run.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Status::Graded => "It was built and run.",
            Status::NotBuilt => "It does not build, so nothing could be run:",
            Status::FilesMissing => "Files are missing, so nothing could be run:",
            Status::Refused => "It cannot be accepted like this, so nothing could be run:",
            Status::Unreadable => "It cannot be read, so nothing could be run:",
            Status::GraderError => "The grader failed, so nothing could be run; that is not the submission's fault:",
        }
    }
}

/// The result of a submission.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Graded {
    /// The name of the student.
    pub name: String,
    /// A digest of what was graded, how, and against what.
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
    /// Why nothing could be run: the messages of the compiler, or the problem of the submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// How its files were packed, where that is not as required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packing: Vec<String>,
    /// Remarks about the files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The emulator on which the verdict relies, besides the kernel.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub relies_on: String,
    /// The tests, part by part.
    pub tests: Vec<TestResult>,
}

/// The result of a test.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct TestResult {
    /// Its part of the rubric.
    pub part: String,
    /// Its name.
    pub name: String,
    /// Its points.
    pub points: u32,
    /// Whether all demands were met.
    pub passed: bool,
    /// Whether students do not see why it failed.
    #[serde(default)]
    pub hidden: bool,
    /// How long it took.
    pub seconds: f64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// A failure of the grader, which is not the student's fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl TestResult {
    /// The points that were reached.
    #[must_use]
    pub fn score(&self) -> u32 {
        if self.passed { self.points } else { 0 }
    }

    /// The text about a failure that a student may see.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        match (&self.failure, &self.error) {
            _ if self.hidden && !self.passed => Some("(this test is hidden)".to_owned()),
            (_, Some(error)) => Some(format!("the grader could not run this: {error}")),
            (failure, None) => failure.as_ref().map(ToString::to_string),
        }
    }
}

impl Graded {
    /// The points reached, and the possible points.
    #[must_use]
    pub fn score(&self) -> (u32, u32) {
        total(self.tests.iter())
    }

    /// The points of each part, in order.
    #[must_use]
    pub fn parts(&self) -> Vec<(&str, (u32, u32))> {
        let mut parts: Vec<&str> = self.tests.iter().map(|test| test.part.as_str()).collect();
        parts.dedup();
        parts.into_iter().map(|part| (part, total(self.tests.iter().filter(|test| test.part == part)))).collect()
    }

    /// Whether all points were reached.
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
