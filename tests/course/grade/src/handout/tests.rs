use super::code::items;
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

/// Two labs, and this list of what is left out. The stubs are among the files.
fn course(files: &[File], left_out: &str) -> Result<Course> {
    let stubs: Vec<File> = files.iter().filter(|file| file.path.starts_with(stubs::PATH)).cloned().collect();
    let labs = vec![lab("one"), lab("two")];
    Ok(Course { labs, stubs: Stubs::parse(&stubs)?, left_out: LeftOut::parse(left_out)? })
}

fn handout(files: &[File], name: &str) -> Result<Handout> {
    handout_without(files, "", name)
}

fn handout_without(files: &[File], left_out: &str, name: &str) -> Result<Handout> {
    Handout::of(files, &course(files, left_out)?, name)
}

fn text(handout: &Handout, path: &str) -> String {
    let file = handout.files.iter().find(|file| file.path == path).expect("the file is in the handout");
    file.text().expect("it is a text").to_owned()
}

fn message(result: Result<impl Sized>) -> String {
    format!("{:#}", result.map(drop).expect_err("this is wrong"))
}

const ONE: [&str; 8] = [
    "//! A file.",
    "",
    "/// What it does.",
    "#[inline]",
    "// exercise 1 of one: the first",
    "fn f() -> u32 {",
    "    first_answer_of_a_good_length_indeed()",
    "}",
];

/// A function with a marker, and what the handout has of it. The text ends where the body begins.
fn exercise(text: &str) -> [String; 2] {
    let made = format!("{text}{{\n    todo!(\"exercise 1 of one: x\")\n}}");
    [format!("// exercise 1 of one: x\n{text}{{ 1 }}"), made]
}

#[test]
fn an_answer_becomes_todo() {
    let made = handout(&[source("one.rs", &ONE)], "one").unwrap();
    let expected = [
        "//! A file.",
        "",
        "#![allow(unused)] // While exercises are open. Delete this line when you are done.",
        "",
        "/// What it does.",
        "#[inline]",
        "fn f() -> u32 {",
        "    todo!(\"exercise 1 of one: the first\")",
        "}",
        "",
    ];
    assert_eq!(text(&made, "one.rs"), expected.join("\n"));
    assert_eq!(made.exercises, 1);
}

/// Code that only an answer calls may be anywhere in its crate.
#[test]
fn the_crate_of_an_exercise_may_have_what_is_not_used() {
    let root = source("lib/a/src/lib.rs", &["//! A crate.", "#![no_std]"]);
    let files = [source("lib/a/src/one.rs", &ONE), root, source("lib/b/src/lib.rs", &["//! Another."])];
    let mut course = course(&files, "").unwrap();
    course.labs[0].files = vec!["lib/a/src/one.rs".to_owned()];
    let made = Handout::of(&files, &course, "one").unwrap();
    assert!(!text(&made, "lib/a/src/one.rs").contains("unused"));
    assert!(text(&made, "lib/a/src/lib.rs").starts_with("//! A crate.\n\n#![allow(unused)] // "));
    assert_eq!(text(&made, "lib/b/src/lib.rs"), "//! Another.\n");
}

#[test]
fn an_answer_of_another_lab_stays_without_its_markers() {
    let two = source("two.rs", &["// exercise 1 of two: x", "fn g() {}"]);
    let made = handout(&[source("one.rs", &ONE), two], "two").unwrap();
    let expected: Vec<_> = ONE.into_iter().filter(|line| !line.contains("exercise")).chain([""]).collect();
    assert_eq!(text(&made, "one.rs"), expected.join("\n"));
}

#[test]
fn something_else_than_todo() {
    let stub = ["// A stub.", "fn f() -> u32 {", "    say(EXERCISE);", "    3", "}"];
    let stub = source("tests/course/stubs/one/one.rs", &stub);
    let made = handout(&[source("one.rs", &ONE), stub], "one").unwrap();
    let text = text(&made, "one.rs");
    assert!(text.ends_with("fn f() -> u32 {\n    say(\"exercise 1 of one: the first\");\n    3\n}\n"), "{text}");
    assert!(!made.files.iter().any(|file| file.path.contains("stubs")));
}

/// A stub belongs to one lab and, if it is for a method, to one type.
#[test]
fn stubs_are_found_by_type_and_name() {
    let lines = [
        "impl<T> a::B<T> {",
        "    // exercise 1 of one: x",
        "    pub(crate) fn f(&self) -> u32 { 1 }",
        "}",
        "impl<T> A for C<T> {",
        "    // exercise 1 of one: x",
        "    fn f() -> u32 {",
        "        2",
        "    }",
        "}",
    ];
    let stub = source("tests/course/stubs/one/one.rs", &["impl C {", "    fn f() { EXERCISE }", "}"]);
    let made = handout(&[source("one.rs", &lines), stub], "one").unwrap();
    let expected = [
        "impl<T> a::B<T> {",
        "    pub(crate) fn f(&self) -> u32 {",
        "        todo!(\"exercise 1 of one: x\")",
        "    }",
        "}",
        "impl<T> A for C<T> {",
        "    fn f() -> u32 { \"exercise 1 of one: x\" }",
        "}",
    ];
    assert!(text(&made, "one.rs").ends_with(&(expected.join("\n") + "\n")), "{}", text(&made, "one.rs"));
}

#[test]
fn wrong_stubs_are_told() {
    let cases: [(&str, &str, &str); 8] = [
        (
            "one/one.rs",
            "\nfn g() {}\n",
            "tests/course/stubs/one/one.rs:2: one.rs has no `fn g` that is an exercise of `one`",
        ),
        (
            "one/one.rs",
            "impl A { fn f() {} }",
            "tests/course/stubs/one/one.rs:1: one.rs has no `fn A::f` that is an exercise of `one`",
        ),
        (
            "two/one.rs",
            "fn f() {}",
            "tests/course/stubs/two/one.rs:1: one.rs has no `fn f` that is an exercise of `two`",
        ),
        ("one/no.rs", "fn f() {}", "tests/course/stubs/one/no.rs:1: no.rs has no `fn f` that is an exercise of `one`"),
        ("one/one.rs", "fn f() {}\n\nfn f( {\n", "tests/course/stubs/one/one.rs:3: "),
        ("one/one.rs", "fn f() {}\nfn f() {}", "tests/course/stubs/one/one.rs:2: `fn f` is there twice"),
        ("one/one.rs", "// none\n", "tests/course/stubs/one/one.rs: there is no function in it"),
        ("one/one.rs", "fn f() {}\nconst X: u32 = 1;", "tests/course/stubs/one/one.rs:2: `const X` is not a function"),
    ];
    for (path, text, expected) in cases {
        let stub = File::new(&format!("tests/course/stubs/{path}"), text.to_owned());
        let message = message(handout(&[source("one.rs", &ONE), stub], "one"));
        assert!(message.starts_with(expected), "{text}: {message}");
    }
    let two = ["#[cfg(a)]", "// exercise 1 of one: x", "fn f() {}", "#[cfg(not(a))]", "fn f() {}"];
    let stub = source("tests/course/stubs/one/one.rs", &["fn f() {}"]);
    let message = message(handout(&[source("one.rs", &two), stub], "one"));
    assert_eq!(message, "one.rs:2: there are several `fn f`: which one has a stub?");
}

/// The list works everywhere, in manifests too; in Rust it can name items.
#[test]
fn what_the_list_names_is_left_out() {
    let toml = source("x.toml", &["a = 1", "", "[b]", "c = 2", "", "[d]"]);
    let other = source("other.rs", &["mod a;", "mod b;", "", "fn x() {", "f();", "g();", "}"]);
    let list = r#"
        part = [
            { file = "x.toml", text = "[b]\nc = 2\n" },
            { file = "other.rs", items = ["mod b"] },
            { file = "other.rs", text = "f();\n", instead = "h();\n" },
        ]
    "#;
    let made = handout_without(&[source("one.rs", &ONE), toml, other], list, "one").unwrap();
    assert_eq!(text(&made, "x.toml"), "a = 1\n\n[d]\n");
    assert_eq!(text(&made, "other.rs"), "mod a;\n\nfn x() {\nh();\ng();\n}\n");
}

#[test]
fn what_a_lab_does_without_others_have() {
    let lines = [
        "impl A {",
        "    /// The first.",
        "    fn f() {}",
        "",
        "    // exercise 1 of two: x",
        "    fn g() {}",
        "",
        "    #[inline]",
        "    fn h() {}",
        "",
        "    fn i() {}",
        "}",
        "",
        "impl B for A {}",
    ];
    let list = r#"
        part = [{ lab = "two", file = "two.rs", items = ["fn A::f", "fn A::h", "fn A::i", "impl B for A"] }]
    "#;
    let files = [source("one.rs", &ONE), source("two.rs", &lines)];
    let of_two = text(&handout_without(&files, list, "two").unwrap(), "two.rs");
    assert!(
        of_two.ends_with("impl A {\n    fn g() {\n        todo!(\"exercise 1 of two: x\")\n    }\n}\n"),
        "{of_two}"
    );
    let expected: Vec<&str> = lines.into_iter().filter(|line| !line.contains("exercise")).chain([""]).collect();
    assert_eq!(text(&handout_without(&files, list, "one").unwrap(), "two.rs"), expected.join("\n"));
}

#[test]
fn a_wrong_list_is_told() {
    let cases: [(&str, &str); 11] = [
        (r#"file = "no.rs", items = ["fn f"]"#, "there is no file no.rs"),
        (r#"file = "one.rs", items = ["fn g"]"#, "one.rs has no `fn g`"),
        (r#"file = "twice.rs", items = ["fn f"]"#, "twice.rs has several `fn f`"),
        (r#"file = "one.rs""#, "a part of one.rs has either `items` or a `text`"),
        (r#"file = "one.rs", items = ["fn f"], text = "f""#, "a part of one.rs has either `items` or a `text`"),
        (r#"file = "one.rs", text = "g();\n""#, "one.rs: `g();`: the file has this text 0 times, not once"),
        (r#"file = "twice.rs", text = "fn f() {}\n""#, "twice.rs: `fn f() {}`: the file has this text 2 times"),
        (r#"file = "one.rs", text = "fn f() -> u32 {""#, "one.rs: `fn f() -> u32 {`: these are not whole lines"),
        (r#"file = "one.rs", text = "inline]\n""#, "one.rs: `inline]`: these are not whole lines"),
        (r#"file = "one.rs", lab = "three", items = ["fn f"]"#, "one.rs: `fn f`: there is no lab `three`"),
        (r#"file = "one.rs", lab = "two", items = ["fn f"]"#, "one.rs: `fn f`: tests/course/rubric.toml does not"),
    ];
    let files = [source("one.rs", &ONE), source("twice.rs", &["fn f() {}", "fn f() {}"])];
    for (part, expected) in cases {
        let message = message(handout_without(&files, &format!("part = [{{ {part} }}]"), "one"));
        assert!(message.starts_with(&format!("tests/course/left-out.toml: {expected}")), "{part}: {message}");
    }
    let both = r#"part = [{ lab = "one", file = "one.rs", items = ["fn f"] }]"#;
    let message = message(handout_without(&files, both, "one"));
    assert!(message.contains("cannot be without this and without"), "{message}");
    let unknown = handout_without(&files, "part = [{ file = \"one.rs\", lines = 1 }]", "one");
    assert!(super::tests::message(unknown).starts_with("tests/course/left-out.toml has a mistake"));
}

#[test]
fn what_no_student_needs_stays_at_home() {
    let paths = [
        "README.md",
        "docs/labs/one.md",
        "docs/labs/two.md",
        "docs/memory.md",
        "tests/course/left-out.toml",
        "tests/course/mutants/a",
    ];
    let list = r#"files = ["README.md", "docs/labs/", "tests/course/mutants/", "docs/mem"]"#;
    let mut files: Vec<File> = paths.iter().map(|path| source(path, &["of the solution"])).collect();
    files.push(source("one.rs", &ONE));
    let made = handout_without(&files, list, "one").unwrap();
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
    assert!(message.contains("docs/x.md:2 has what is missing near one.rs:7"), "{message}");
}

/// Lines that students get in the stub are no answer; items that are left out are.
#[test]
fn the_answer_is_what_students_do_not_get() {
    let lines = [
        "    let a_line_that_everybody_gets_of_this_function = 1;",
        "    let a_line_that_nobody_gets_of_this_function = 2;",
    ];
    let one = source("one.rs", &["// exercise 1 of one: x", "fn f() {", lines[0], lines[1], "}"]);
    let stub = source("tests/course/stubs/one/one.rs", &["fn f() {", lines[0], "}"]);
    let other = |line| source("other.rs", &["fn g() {", line, "}"]);
    assert!(handout(&[one.clone(), stub.clone(), other(lines[0])], "one").is_ok());
    let found = message(handout(&[one, stub, other(lines[1])], "one"));
    assert!(found.contains("other.rs:2 has what is missing near one.rs:4"), "{found}");

    let other = source("x.md", &["so:", "fn only_in_the_solution_there_is_this_function() {}"]);
    let two = source("two.rs", &["", "fn only_in_the_solution_there_is_this_function() {}"]);
    let list = r#"part = [{ file = "two.rs", items = ["fn only_in_the_solution_there_is_this_function"] }]"#;
    let found = message(handout_without(&[source("one.rs", &ONE), two, other], list, "one"));
    assert!(found.contains("x.md:2 has what is missing near two.rs:2"), "{found}");
}

/// Each of these begins with the file and the line.
#[test]
fn wrong_markers_are_told() {
    const START: &str = "// exercise 1 of one: x";
    const ABOVE_NONE: &str = "no function begins directly below this marker";
    let cases: [(&[&str], &str); 16] = [
        (&["", START], &format!("one.rs:2: {ABOVE_NONE}")),
        (&[START, START, "fn f() {}"], &format!("one.rs:1: {ABOVE_NONE}")),
        (&[START, "", "fn f() {}"], &format!("one.rs:1: {ABOVE_NONE}")),
        (&[START, "#[inline]", "fn f() {}"], &format!("one.rs:1: {ABOVE_NONE}")),
        (&[START, "/// It is.", "fn f() {}"], &format!("one.rs:1: {ABOVE_NONE}")),
        (&[START, "const F: fn() = g;"], &format!("one.rs:1: {ABOVE_NONE}")),
        (&["fn f() {", START, "    f()", "}"], &format!("one.rs:2: {ABOVE_NONE}")),
        (&["trait A {", START, "    fn f();", "}"], &format!("one.rs:2: {ABOVE_NONE}")),
        (&[START, "fn f() {", "    f(", "}"], "one.rs:4: "),
        (&["// exercise x of one: y", "fn f() {}"], "one.rs:1: `x` is not the number of an exercise"),
        (&["// exercise 0 of one: y", "fn f() {}"], "one.rs:1: `0` is not the number of an exercise"),
        (&["// exercise for the reader"], "one.rs:1: `exercise for the reader`: a marker reads"),
        (&["// exercise 1 of one"], "one.rs:1: `exercise 1 of one`: a marker reads"),
        (&["// exercise 1 of one: \"y\"", "fn f() {}"], "one.rs:1: `\"y\"` becomes a message"),
        (&["// exercise 1 of three: y", "fn f() {}"], "one.rs:1: there is no lab `three` in tests/course/rubric.toml"),
        (
            &["// exercise 1 of two: y", "fn f() {}"],
            "one.rs:1: tests/course/rubric.toml does not name this file for the lab `two`",
        ),
    ];
    for (lines, expected) in cases {
        let message = message(handout(&[source("one.rs", lines)], "one"));
        assert!(message.starts_with(expected), "{lines:?}: {message}");
    }
}

/// A marker works above every kind of function.
#[test]
fn functions_of_all_kinds_can_be_exercises() {
    for text in [
        "pub(crate) unsafe extern \"C\" fn f() ",
        "const fn f<T>()\nwhere\n    T: A,\n",
        "pub async fn f(\n    a: u32,\n) ",
    ] {
        let [given, expected] = exercise(text);
        let made = handout(&[source("one.rs", &["#![x]", &given])], "one").unwrap();
        assert!(super::tests::text(&made, "one.rs").ends_with(&format!("#![x]\n{expected}\n")), "{text}");
    }
    let lines = ["trait A {", "    // exercise 1 of one: x", "    fn f() {", "        1", "    }", "}"];
    let lines = ["mod m {", &lines.join("\n"), "}"];
    let stub = source("tests/course/stubs/one/one.rs", &["mod m {", "trait A {", "fn f() { 2 }", "}", "}"]);
    let made = handout(&[source("one.rs", &lines), stub], "one").unwrap();
    assert!(text(&made, "one.rs").ends_with("mod m {\ntrait A {\n    fn f() { 2 }\n}\n}\n"));
}

#[test]
fn items_are_called_by_kind_and_name() {
    let text = "use a::{B, c};\nmod m {\n    pub struct S<T>(T);\n    impl<T> S<T> {\n        pub fn f() {}\n    }\n}\n\
        const C: u32 = 1;\nstatic D: u32 = 1;\nenum E {}\ntype T = u32;\ntrait A {\n    fn a();\n}\n\
        impl<T> fmt::Display for x::S<T> {}\nm!();\n";
    let names: Vec<String> = items(text).unwrap().into_iter().map(|item| item.name).collect();
    let expected = [
        "use a::{B, c}",
        "mod m",
        "struct m::S",
        "impl m::S",
        "fn m::S::f",
        "const C",
        "static D",
        "enum E",
        "type T",
        "trait A",
        "impl Display for S",
    ];
    assert_eq!(names, expected);
}

#[test]
fn numbers_have_no_gaps() {
    let exercise = |number: u32| format!("// exercise {number} of one: x\nfn f() {{}}\n");
    let file = |numbers: &[u32]| File::new("one.rs", numbers.iter().map(|&number| exercise(number)).collect());
    assert_eq!(handout(&[file(&[2, 1, 3, 1])], "one").unwrap().exercises, 3);
    let message = message(handout(&[file(&[1, 3])], "one"));
    assert_eq!(message, "one.rs:3: this is exercise 3, but there is no exercise 2");
    let none = handout(&[source("one.rs", &["fn f() {}"])], "one");
    assert_eq!(super::tests::message(none), "no marker in one.rs names the lab `one`");
    let unknown = handout(&[source("one.rs", &["fn f() {}"])], "three");
    assert_eq!(super::tests::message(unknown), "there is no lab `three`; the labs are one, two");
}

#[test]
fn a_line_is_a_marker_only_by_itself() {
    let lines =
        "f(); // exercise 1 of one: x\n/// exercise 1 of one: x\n//! exercise 1\n// exercises\n// the exercise 1\n";
    assert_eq!(markers::find(lines).unwrap(), []);
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
    let (files, course) = (tree::read(&root).unwrap(), Course::load(&root).unwrap());
    for lab in &course.labs {
        let made = Handout::of(&files, &course, &lab.name).unwrap();
        let lab_text = text(&made, &lab.text);
        let headings = lab_text.lines().filter_map(|line| line.strip_prefix("## Exercise "));
        let headings: Vec<&str> = headings.filter_map(|heading| Some(heading.split_once(':')?.0)).collect();
        let numbers: Vec<String> = (1..=made.exercises).map(|number| number.to_string()).collect();
        assert_eq!(headings, numbers, "{}", lab.text);

        for link in xtask::doc::links(&lab_text).filter_map(|link| link.split('#').next()) {
            let path = link.strip_prefix("../").map_or_else(|| format!("docs/labs/{link}"), |up| format!("docs/{up}"));
            assert!(made.files.iter().any(|file| file.path == path), "{}: the handout has no {path}", lab.text);
        }
        let named = lab_text.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs"));
        for name in named.filter(|name| name.contains('/')) {
            assert!(made.files.iter().any(|file| file.path == name), "{}: the handout has no {name}", lab.text);
        }
    }
}
