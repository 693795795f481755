//! Patches, and files whose paths would have to be directories.

use super::*;

fn patch_of(path: &str) -> Vec<u8> {
    format!("--- a/{path}\n+++ b/{path}\n@@ -1,2 +1,2 @@\n one\n-two\n+three\n").into_bytes()
}

fn changes() -> Course {
    Course { partial: true, ..lab() }
}

#[test]
fn patches_are_read_only_as_changes() {
    let patch = patch_of(FORK);
    let submission = lab().read_file("ann.patch", &patch);
    assert_eq!(status(&submission), Some(Status::Refused));
    assert_eq!(why(&submission), "ann.patch: changes are read only with --partial");
    assert!(submission.files.is_empty() && !submission.partial, "{submission:#?}");
    assert_eq!(status(&changes().read_file("ann.patch", &patch)), None);
}

#[test]
fn patches_in_archives_and_directories() {
    let patch = patch_of(FORK);
    let zip = zip_of(&[("w/ann.patch", &patch)]);
    let text: Member = ("onlinetext.html", b"<p>");
    let read =
        |course: &Course| [course.read_file("ann.zip", &zip), course.read_directory(&[("w/ann.patch", &patch), text])];
    for submission in read(&changes()) {
        assert_eq!((&submission.files[FORK][..], submission.partial), (&b"one\nthree\n"[..], true));
        assert_eq!(submission.read_as, ["read as changes: w/ann.patch"]);
        assert_eq!(submission.problem, None);
    }
    for submission in read(&lab()) {
        assert_eq!(status(&submission), Some(Status::Refused));
        assert_eq!(why(&submission), "w/ann.patch: changes are read only with --partial");
    }
    let alone = "changes are read only if they are all that is handed in";
    for other in ["b.patch", "other.rs"] {
        let submission = changes().read_directory(&[("a.patch", &patch), (other, &patch)]);
        assert_eq!(status(&submission), Some(Status::Refused), "{other}");
        assert!(why(&submission).starts_with(&format!("{alone}: a.patch")), "{}", why(&submission));
    }
    let bad = changes().read_directory(&[("a.patch", b"nothing")]);
    assert_eq!((status(&bad), why(&bad)), (Some(Status::Refused), "a.patch: there is no unified diff"));
}

#[test]
fn a_file_is_no_directory() {
    let course = Course::new(&["lib/pager/src/**"]);
    let below = "lib/pager/src/lib.rs/x.rs";
    let both = [("lib/pager/src/a.rs", &b"1"[..]), ("lib/pager/src/a.rs/b.rs", b"2")];
    for (members, at, other) in
        [(vec![(below, &b"1"[..]), (FORK, b"2")], "lib/pager/src/lib.rs", below), (both.to_vec(), both[0].0, both[1].0)]
    {
        let submission = course.read_file("s.tar", &tar_of(&members));
        assert_eq!(status(&submission), Some(Status::Refused), "{submission:#?}");
        assert_eq!(why(&submission), format!("{other}: {at} is a file, not a directory"));
    }
    let mut deep = Course::new(&["lib/pager/src/**"]);
    deep.reference.insert("lib/pager/src/deep.rs/mod.rs".to_owned(), Vec::new());
    let submission = deep.read_file("s.tar", &tar_of(&[("lib/pager/src/deep.rs", b"1")]));
    assert_eq!(status(&submission), Some(Status::Refused), "{submission:#?}");
}
