//! The file formats of results.

use crate::result::{Graded, TestResult};
use anyhow::{Context, Result};
use quick_xml::{Writer, events::BytesText};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::SystemTime;

/// The format of a result, by its reader.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    /// People.
    #[default]
    Text,
    /// Programs: all data, hidden tests included.
    Json,
    /// Gradescope: `results.json`.
    Gradescope,
    /// Classroom 50: `result.json`.
    Classroom50,
    /// JUnit's XML, which many tools display.
    Junit,
}

/// The environment variables in which Classroom 50 identifies the submission, one for each field.
const IDENTITY: [(&str, &str); 6] = [
    ("classroom", "CLASSROOM"),
    ("assignment", "ASSIGNMENT"),
    ("submission", "SUBMISSION_TAG"),
    ("commit", "COMMIT_URL"),
    ("release", "RELEASE_URL"),
    ("review", "REVIEW_URL"),
];

impl Format {
    /// The file name extension of this format.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Format::Text => "txt",
            Format::Junit => "xml",
            Format::Json | Format::Gradescope | Format::Classroom50 => "json",
        }
    }

    /// The result in this format.
    ///
    /// # Errors
    /// The result cannot be represented in this format.
    pub fn write(self, graded: &Graded) -> Result<String> {
        let value = match self {
            Format::Text => return Ok(text(graded)),
            Format::Junit => return junit(graded),
            Format::Json => json_of(graded)?,
            Format::Gradescope => gradescope(graded),
            Format::Classroom50 => classroom50(graded, SystemTime::now(), |name| std::env::var(name).ok()),
        };
        Ok(format!("{}\n", serde_json::to_string_pretty(&value).context("cannot write JSON")?))
    }
}

fn text(graded: &Graded) -> String {
    let mut text = String::new();
    for note in graded.packing.iter().chain(&graded.notes) {
        let _ = writeln!(text, "note: {note}");
    }
    if !graded.relies_on.is_empty() {
        let _ = writeln!(text, "relies on: {}", graded.relies_on);
    }
    if let Some(broken) = &graded.broken {
        let _ = writeln!(text, "{}\n{broken}\n", graded.status().sentence());
    }
    for (part, (score, points)) in graded.parts() {
        for test in graded.tests.iter().filter(|test| test.part == part) {
            let word = if graded.broken.is_some() { "NOT RUN" } else { word(test) };
            let _ = writeln!(text, "{}: {word} ({:.1}s)", test.name, test.seconds);
            for line in test.told().iter().flat_map(|told| told.lines()) {
                let _ = writeln!(text, "    {line}");
            }
        }
        let _ = writeln!(text, "Part {part} score: {score}/{points}\n");
    }
    let (score, points) = graded.score();
    let _ = writeln!(text, "Score: {score}/{points}");
    text
}

fn word(test: &TestResult) -> &'static str {
    match (test.passed, &test.error) {
        (true, _) => "OK",
        (false, None) => "FAIL",
        (false, Some(_)) => "ERROR",
    }
}

fn json_of(graded: &Graded) -> Result<Value> {
    let mut value = serde_json::to_value(graded).context("cannot write JSON")?;
    let (score, points) = graded.score();
    value["status"] = graded.status().word().into();
    value["score"] = score.into();
    value["points"] = points.into();
    let parts =
        graded.parts().into_iter().map(|(part, (score, points))| json!({"id": part, "score": score, "points": points}));
    value["parts"] = parts.collect();
    Ok(value)
}

fn gradescope(graded: &Graded) -> Value {
    let test = |test: &TestResult| {
        let failure = test.failure.as_ref().map(ToString::to_string);
        json!({
            "name": test.name,
            "number": test.part,
            "score": test.score(),
            "max_score": test.points,
            "status": if test.passed { "passed" } else { "failed" },
            "output": failure.or_else(|| test.error.clone()).unwrap_or_default(),
            "output_format": "text",
            "visibility": if test.hidden { "hidden" } else { "visible" },
        })
    };
    let mut output = [&graded.packing[..], &graded.notes].concat().join("\n");
    if let Some(broken) = &graded.broken {
        let _ = write!(output, "\n{}\n{broken}", graded.status().sentence());
    }
    json!({
        "score": graded.score().0,
        "execution_time": graded.seconds.ceil() as u64,
        "output": output.trim_start(),
        "output_format": "text",
        "stdout_visibility": "hidden",
        "extra_data": {"status": graded.status().word()},
        "tests": graded.tests.iter().map(test).collect::<Vec<_>>(),
    })
}

fn classroom50(graded: &Graded, now: SystemTime, variable: impl Fn(&str) -> Option<String>) -> Value {
    let test = |test: &TestResult| json!({"test-name": test.name, "passed": test.passed, "score": test.score(), "max-score": test.points});
    let (score, points) = graded.score();
    let mut value = json!({
        "schema": "classroom50/result/v1",
        "usernames": [variable("USERNAME").unwrap_or_else(|| graded.name.clone())],
        "datetime": humantime::format_rfc3339_seconds(now).to_string(),
        "score": score,
        "max-score": points,
        "tests": graded.tests.iter().map(test).collect::<Vec<_>>(),
    });
    for (field, name) in IDENTITY {
        value[field] = variable(name).unwrap_or_default().into();
    }
    value
}

fn junit(graded: &Graded) -> Result<String> {
    let failed = graded.tests.iter().filter(|test| !test.passed && test.error.is_none()).count();
    let errors = graded.tests.iter().filter(|test| test.error.is_some()).count();
    let counts =
        [("tests", graded.tests.len()), ("failures", failed), ("errors", errors)].map(|(key, n)| (key, n.to_string()));
    let counts = counts.iter().map(|(key, n)| (*key, n.as_str()));
    let seconds = format!("{:.3}", graded.seconds);
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    let suite =
        writer.create_element("testsuite").with_attribute(("name", graded.name.as_str())).with_attributes(counts);
    suite.with_attribute(("time", seconds.as_str())).write_inner_content(|writer| {
        let status = [("name", "status"), ("value", graded.status().word())];
        writer.create_element("properties").write_inner_content(|writer| {
            writer.create_element("property").with_attributes(status).write_empty().map(drop)
        })?;
        for test in &graded.tests {
            junit_test(writer, graded, test)?;
        }
        match &graded.broken {
            Some(broken) => {
                writer.create_element("system-err").write_text_content(BytesText::new(&clean(broken))).map(drop)
            }
            None => Ok(()),
        }
    })?;
    let text = String::from_utf8(writer.into_inner()).context("XML is text")?;
    Ok(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{text}\n"))
}

fn junit_test(writer: &mut Writer<Vec<u8>>, graded: &Graded, test: &TestResult) -> std::io::Result<()> {
    let class = format!("{}.{}", graded.lab.as_deref().unwrap_or("faultline"), test.part);
    let seconds = format!("{:.3}", test.seconds);
    let attributes = [("classname", class.as_str()), ("name", test.name.as_str()), ("time", seconds.as_str())];
    let element = writer.create_element("testcase").with_attributes(attributes);
    let kind = match (test.passed, &test.error) {
        (true, _) => return element.write_empty().map(drop),
        (false, None) => "failure",
        (false, Some(_)) => "error",
    };
    let told = clean(&test.told().unwrap_or_else(|| graded.status().word().to_owned()));
    let first = told.lines().next().unwrap_or_default().to_owned();
    let inner = |writer: &mut Writer<Vec<u8>>| {
        let element = writer.create_element(kind).with_attribute(("message", first.as_str()));
        element.write_text_content(BytesText::new(&told)).map(drop)
    };
    element.write_inner_content(inner).map(drop)
}

/// The text without the characters that XML does not permit.
fn clean(text: &str) -> String {
    text.chars().filter(|&c| c == '\n' || c == '\t' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Status;
    use engine::{Failure, expect::Unmet};
    use std::time::Duration;

    fn graded() -> Graded {
        let test = |part: &str, name: &str, passed| TestResult {
            part: part.to_owned(),
            name: name.to_owned(),
            points: 5,
            passed,
            hidden: false,
            seconds: 1.25,
            failure: None,
            error: None,
        };
        let failure = Failure {
            unmet: vec![Unmet { expected: "a line /<b>/ expected".to_owned(), seen: vec!["x & y\u{1b}".to_owned()] }],
            hints: vec!["look".to_owned()],
            places: Vec::new(),
            console: vec!["x & y".to_owned()],
            skipped: 2,
            repeat: vec!["cargo xtask grade spin".to_owned()],
        };
        let secret = TestResult { hidden: true, ..test("B", "secret", false) };
        let spin = TestResult { failure: Some(failure), ..test("B", "spin", false) };
        Graded {
            name: "ann".to_owned(),
            key: "k".to_owned(),
            lab: None,
            status: Status::Graded,
            seconds: 4.5,
            broken: None,
            packing: vec!["read as the whole tree: work/".to_owned()],
            notes: vec!["may not be changed, and was restored: build.rs".to_owned()],
            relies_on: "QEMU 9.2.0".to_owned(),
            tests: vec![test("A", "dumbfork", true), spin, secret],
        }
    }

    #[test]
    fn text_for_people() {
        let expected = "\
note: read as the whole tree: work/
note: may not be changed, and was restored: build.rs
relies on: QEMU 9.2.0
dumbfork: OK (1.2s)
Part A score: 5/5

spin: FAIL (1.2s)
    a line /<b>/ expected
      seen: x & y\u{1b}
    hint: look
    the last lines of the console (2 before them):
      | x & y
    this repeats it:
      cargo xtask grade spin
secret: FAIL (1.2s)
    (this test is hidden)
Part B score: 0/10

Score: 5/15
";
        assert_eq!(text(&graded()), expected);
    }

    #[test]
    fn broken_submissions_say_why() {
        let broken = Some("error: no".to_owned());
        let graded = Graded { broken, status: Status::NotBuilt, ..graded() };
        assert!(text(&graded).contains("does not build, so nothing could be run:\nerror: no\n"));
        assert!(gradescope(&graded)["output"].as_str().unwrap().ends_with("error: no"));
        assert!(junit(&graded).unwrap().contains("<system-err>error: no</system-err>"));
    }

    #[test]
    fn every_format_says_how_far_it_got() {
        let of = |status: Status| Graded { broken: Some("why".to_owned()), status, ..graded() };
        for status in [Status::FilesMissing, Status::Refused, Status::Unreadable, Status::GraderError] {
            let (graded, word) = (of(status), status.word());
            assert!(text(&graded).contains(&format!("{}\nwhy\n", status.sentence())), "{word}");
            assert!(!text(&graded).contains("does not build"), "{word}");
            assert!(text(&graded).contains("spin: NOT RUN"), "{word}");
            let scope = gradescope(&graded);
            assert_eq!(scope["extra_data"], json!({"status": word}));
            assert!(scope["output"].as_str().unwrap().ends_with(&format!("{}\nwhy", status.sentence())));
            assert_eq!(json_of(&graded).unwrap()["status"], word);
            let property = format!("<property name=\"status\" value=\"{word}\"/>");
            assert!(junit(&graded).unwrap().contains(&property), "{word}");
        }
        let mut graded = graded();
        graded.tests[0].error = Some("no emulator".to_owned());
        assert_eq!(json_of(&graded).unwrap()["status"], "grader error");
    }

    #[test]
    fn json_for_programs_comes_back() {
        let value = json_of(&graded()).unwrap();
        assert_eq!((&value["score"], &value["points"]), (&json!(5), &json!(15)));
        assert_eq!(value["parts"][1], json!({"id": "B", "score": 0, "points": 10}));
        assert_eq!(serde_json::from_value::<Graded>(value).unwrap(), graded());
    }

    #[test]
    fn results_for_gradescope() {
        let value = gradescope(&graded());
        assert_eq!((&value["score"], &value["execution_time"]), (&json!(5), &json!(5)));
        let test = &value["tests"][0];
        assert_eq!((&test["score"], &test["max_score"], &test["status"]), (&json!(5), &json!(5), &json!("passed")));
        assert_eq!(value["tests"][2]["visibility"], "hidden");
        assert!(value["tests"][1]["output"].as_str().unwrap().contains("hint: look"));
    }

    #[test]
    fn results_for_classroom50() {
        let variable = |name: &str| Some(format!("the {name}"));
        let value = classroom50(&graded(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), variable);
        let tests = json!([
            {"test-name": "dumbfork", "passed": true, "score": 5, "max-score": 5},
            {"test-name": "spin", "passed": false, "score": 0, "max-score": 5},
            {"test-name": "secret", "passed": false, "score": 0, "max-score": 5},
        ]);
        let expected = json!({
            "schema": "classroom50/result/v1",
            "classroom": "the CLASSROOM",
            "assignment": "the ASSIGNMENT",
            "usernames": ["the USERNAME"],
            "submission": "the SUBMISSION_TAG",
            "commit": "the COMMIT_URL",
            "release": "the RELEASE_URL",
            "review": "the REVIEW_URL",
            "datetime": "2027-01-15T08:00:00Z",
            "score": 5,
            "max-score": 15,
            "tests": tests,
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn xml_for_junit() {
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="ann" tests="3" failures="2" errors="0" time="4.500">
  <properties>
    <property name="status" value="graded"/>
  </properties>
  <testcase classname="faultline.A" name="dumbfork" time="1.250"/>
  <testcase classname="faultline.B" name="spin" time="1.250">
    <failure message="a line /&lt;b&gt;/ expected">a line /&lt;b&gt;/ expected
  seen: x &amp; y
hint: look
the last lines of the console (2 before them):
  | x &amp; y
this repeats it:
  cargo xtask grade spin</failure>
  </testcase>
  <testcase classname="faultline.B" name="secret" time="1.250">
    <failure message="(this test is hidden)">(this test is hidden)</failure>
  </testcase>
</testsuite>
"#;
        assert_eq!(junit(&graded()).unwrap(), expected);
    }
}
