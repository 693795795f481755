//! Archives that are not what they seem to be.

use super::*;

#[test]
fn gzip_without_tar() {
    let long = b"fn fork() {}\n".repeat(100);
    for (name, data) in [("fork.rs.gz", &b"mine"[..]), ("fork.tgz", b"mine"), ("fork.rs.gz", &long)] {
        let data = gzip(data);
        for submission in [lab().read_file(name, &data), lab().read_directory(&[(name, &data)])] {
            assert_eq!(status(&submission), Some(Status::Refused), "{submission:#?}");
            let said = "packed by gzip alone, without tar: pack it as .zip or .tar.gz";
            assert_eq!(why(&submission), format!("{name}: {said}"));
        }
    }
    // Old archives have no magic number.
    let mut old = tar::Builder::new(Vec::new());
    for (name, data) in BOTH {
        let mut header = tar::Header::new_old();
        header.set_path(name).unwrap();
        header.set_size(data.len() as u64);
        header.set_cksum();
        old.append(&header, data).unwrap();
    }
    is_whole(&lab().read_file("s.tar.gz", &gzip(&old.into_inner().unwrap())));
}

#[test]
fn bytes_behind_a_zip() {
    for junk in [1, 11, 25, 3000] {
        let data = [zip_of(&BOTH), vec![b'x'; junk]].concat();
        is_whole(&lab().read_file("s.zip", &data));
        let data = [vec![b'x'; junk], zip_of(&BOTH)].concat();
        is_whole(&lab().read_directory(&[("s.zip", &data)]));
    }
}
