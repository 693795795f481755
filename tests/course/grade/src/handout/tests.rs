use super::markers::parse;
use super::tree::File;
use super::*;

fn lab(name: &str) -> Lab {
    Lab {
        name: name.to_owned(),
        title: "A lab".to_owned(),
        text: format!("docs/labs/{name}.md"),
        files: vec![format!("{name}.rs")],
        tests: vec!["hello".to_owned()],
    }
}

fn source(path: &str, lines: &[&str]) -> File {
    File::new(path, lines.join("\n") + "\n")
}

fn handout(files: &[File], name: &str) -> Result<Handout> {
    Handout::of(files, &[lab("one"), lab("two")], name)
}

fn text(handout: &Handout, path: &str) -> String {
    let file = handout.files.iter().find(|file| file.path == path).expect("the file is in the handout");
    file.text().expect("it is a text").to_owned()
}

fn message(result: Result<impl Sized>) -> String {
    format!("{:#}", result.map(drop).expect_err("this is wrong"))
}

const ONE: [&str; 11] = [
    "//! A file.",
    "",
    "/// What it does.",
    "fn f() -> u32 {",
    "    // exercise 1 of one: the first",
    "    first_answer_of_a_good_length_indeed()",
    "    // end of exercise",
    "}",
    "// left out of every lab",
    "fn only_in_the_solution_there_is_this() {}",
    "// end of what is left out",
];

#[test]
fn an_answer_becomes_todo() {
    let made = handout(&[source("one.rs", &ONE)], "one").unwrap();
    let expected = [
        "//! A file.",
        "",
        "#![allow(unused)] // While exercises are open. Delete this line when you are done.",
        "",
        "/// What it does.",
        "fn f() -> u32 {",
        "    todo!(\"exercise 1 of one: the first\")",
        "}",
        "",
    ];
    assert_eq!(text(&made, "one.rs"), expected.join("\n"));
    assert_eq!(made.exercises, 1);
}

/// What an answer would call may be anywhere in its crate.
#[test]
fn the_crate_of_an_exercise_may_have_what_is_not_used() {
    let mut one = lab("one");
    one.files = vec!["lib/a/src/one.rs".to_owned()];
    let root = source("lib/a/src/lib.rs", &["//! A crate.", "#![no_std]"]);
    let files = [source("lib/a/src/one.rs", &ONE), root, source("lib/b/src/lib.rs", &["//! Another."])];
    let made = Handout::of(&files, &[one], "one").unwrap();
    assert!(!text(&made, "lib/a/src/one.rs").contains("unused"));
    assert!(text(&made, "lib/a/src/lib.rs").starts_with("//! A crate.\n\n#![allow(unused)] // "));
    assert_eq!(text(&made, "lib/b/src/lib.rs"), "//! Another.\n");
}

#[test]
fn an_answer_of_another_lab_stays_without_its_markers() {
    let two = source("two.rs", &["// exercise 1 of two: x", "f();", "// end of exercise"]);
    let made = handout(&[source("one.rs", &ONE), two], "two").unwrap();
    let expected = ["//! A file.", "", "/// What it does.", "fn f() -> u32 {"].into_iter();
    let expected: Vec<_> = expected.chain(["    first_answer_of_a_good_length_indeed()", "}", ""]).collect();
    assert_eq!(text(&made, "one.rs"), expected.join("\n"));
}

#[test]
fn something_else_than_todo() {
    let lines = [
        "    // exercise 1 of one: the first",
        "    // instead: say(EXERCISE);",
        "    // instead: 3",
        "    answer()",
        "    // end of exercise",
    ];
    let made = handout(&[source("one.rs", &lines)], "one").unwrap();
    let text = text(&made, "one.rs");
    assert!(text.ends_with("    say(\"exercise 1 of one: the first\");\n    3\n"), "{text}");
}

#[test]
fn hashes_begin_comments_elsewhere() {
    let toml = source("x.toml", &["a = 1", "# left out of every lab", "b = 2", "# end of what is left out"]);
    let made = handout(&[source("one.rs", &ONE), toml], "one").unwrap();
    assert_eq!(text(&made, "x.toml"), "a = 1\n");
}

#[test]
fn what_no_student_needs_stays_at_home() {
    let paths =
        ["README.md", "docs/labs/one.md", "docs/labs/two.md", "docs/memory.md", "tests/course/mutants/a"];
    let mut files: Vec<File> = paths.iter().map(|path| source(path, &["of the solution"])).collect();
    files.push(source("one.rs", &ONE));
    let made = handout(&files, "one").unwrap();
    let paths: Vec<&str> = made.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["docs/labs/one.md", "docs/memory.md", "one.rs", "README.md"]);
    let readme = text(&made, "README.md");
    assert!(readme.contains("| 1 | the first | one.rs |") && readme.contains("grade --lab one"), "{readme}");
}

#[test]
fn an_answer_elsewhere_is_found() {
    let document = source("docs/x.md", &["so:", "> first_answer_of_a_good_length_indeed();"]);
    let other = source("docs/x.md", &["so:", "  first_answer_of_a_good_length_indeed();"]);
    assert!(handout(&[source("one.rs", &ONE), document], "one").is_ok(), "not the same line");
    let message = message(handout(&[source("one.rs", &ONE), other], "one"));
    assert!(message.contains("docs/x.md:2 has what is missing near one.rs:6"), "{message}");
}

/// Each of these begins with the file and the line.
#[test]
fn wrong_markers_are_told() {
    const START: &str = "// exercise 1 of one: x";
    const END: &str = "// end of exercise";
    let cases: [(&[&str], &str); 14] = [
        (&["", START, "f()"], "one.rs:2: this has no end"),
        (
            &[START, START],
            "one.rs:2: `// exercise 1 of one: x` does not fit here, inside what began in line 1",
        ),
        (&[START, "// left out of one", END], "one.rs:2: `// left out of one` does not fit here"),
        (&["f()", END], "one.rs:2: `// end of exercise` without anything that it belongs to"),
        (&["// instead: x"], "one.rs:1: `// instead: x` without anything"),
        (&[START, "f()", "// instead: x", END], "one.rs:3: `// instead: x` does not fit here"),
        (&[START, "// end of what is left out"], "one.rs:2: `// end of what is left out` does not fit"),
        (&["// left out of one", END], "one.rs:2: `// end of exercise` does not fit"),
        (&["// exercise x of one: y", END], "one.rs:1: `x` is no number of an exercise"),
        (&["// exercise 0 of one: y", END], "one.rs:1: `0` is no number of an exercise"),
        (&["// exercise for the reader", END], "one.rs:1: `exercise for the reader`: a marker reads"),
        (&["// exercise 1 of one: \"y\"", END], "one.rs:1: `\"y\"` becomes a message"),
        (
            &["// exercise 1 of three: y", END],
            "one.rs:1: there is no lab `three` in tests/course/rubric.toml",
        ),
        (
            &["// exercise 1 of two: y", END],
            "one.rs:1: tests/course/rubric.toml does not name this file for the lab `two`",
        ),
    ];
    for (lines, expected) in cases {
        let message = message(handout(&[source("one.rs", lines)], "one"));
        assert!(message.starts_with(expected), "{lines:?}: {message}");
    }
}

#[test]
fn numbers_have_no_gaps() {
    let exercise = |number: u32| format!("// exercise {number} of one: x\nf()\n// end of exercise\n");
    let file =
        |numbers: &[u32]| File::new("one.rs", numbers.iter().map(|&number| exercise(number)).collect());
    assert_eq!(handout(&[file(&[2, 1, 3, 1])], "one").unwrap().exercises, 3);
    let message = message(handout(&[file(&[1, 3])], "one"));
    assert_eq!(message, "one.rs:4: this is exercise 3, but there is no exercise 2");
    let none = handout(&[source("one.rs", &["f()"])], "one");
    assert_eq!(super::tests::message(none), "no marker in one.rs names the lab `one`");
    let unknown = handout(&[source("one.rs", &["f()"])], "three");
    assert_eq!(super::tests::message(unknown), "there is no lab `three`; there are one, two");
}

#[test]
fn a_line_is_a_marker_only_by_itself() {
    let lines = "f(); // exercise 1 of one: x\n/// exercise 1 of one: x\n//! left out of one\n// lefty\n// the end of exercise\n";
    assert_eq!(parse(lines).unwrap().iter().filter_map(Piece::part).count(), 0);
}

#[test]
fn only_an_empty_directory_is_filled() {
    let scratch = tempfile::tempdir().unwrap();
    let files = [source("a/b.rs", &["x"])];
    tree::write(scratch.path(), &scratch.path().join("new"), &files).unwrap();
    assert_eq!(std::fs::read_to_string(scratch.path().join("new/a/b.rs")).unwrap(), "x\n");
    let message = message(tree::write(scratch.path(), &scratch.path().join("new"), &files));
    assert!(message.contains("is not empty"), "{message}");
}

/// With Git the files that it knows, without it those that are not ignored.
#[test]
fn ignored_files_are_no_part_of_the_solution() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    std::fs::write(root.join(".gitignore"), "/target\n").unwrap();
    std::fs::create_dir(root.join("target")).unwrap();
    for name in ["target/x", "a.rs", "later.rs"] {
        std::fs::write(root.join(name), "x").unwrap();
    }
    let names = || -> Vec<String> { tree::read(root).unwrap().into_iter().map(|file| file.path).collect() };
    assert_eq!(names(), [".gitignore", "a.rs", "later.rs"]);
    let git = |words: &[&str]| std::process::Command::new("git").arg("-C").arg(root).args(words).output();
    if git(&["init", "--quiet"]).is_ok_and(|output| output.status.success()) {
        git(&["add", ".gitignore", "a.rs"]).unwrap();
        assert_eq!(names(), [".gitignore", "a.rs"]);
    }
}

/// The handouts of this very tree: their texts have a heading for each exercise, and lead nowhere that is not there.
#[test]
fn the_texts_of_the_labs_fit_their_handouts() {
    let root = Workspace::load().unwrap().root;
    let (files, rubric) = (tree::read(&root).unwrap(), Rubric::load(&root).unwrap());
    for lab in &rubric.labs {
        let made = Handout::of(&files, &rubric.labs, &lab.name).unwrap();
        let lab_text = text(&made, &lab.text);
        let headings = lab_text.lines().filter_map(|line| line.strip_prefix("## Exercise "));
        let headings: Vec<&str> = headings.filter_map(|heading| Some(heading.split_once(':')?.0)).collect();
        let numbers: Vec<String> = (1..=made.exercises).map(|number| number.to_string()).collect();
        assert_eq!(headings, numbers, "{}", lab.text);

        let links = lab_text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for link in links {
            let path = link
                .strip_prefix("../")
                .map_or_else(|| format!("docs/labs/{link}"), |up| format!("docs/{up}"));
            assert!(
                made.files.iter().any(|file| file.path == path),
                "{}: the handout has no {path}",
                lab.text
            );
        }
        let named = lab_text.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs"));
        for name in named.filter(|name| name.contains('/')) {
            assert!(
                made.files.iter().any(|file| file.path == name),
                "{}: the handout has no {name}",
                lab.text
            );
        }
    }
}
