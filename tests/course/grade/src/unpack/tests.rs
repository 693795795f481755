//! Tests of the limits, and of the attacks that they stop.

use super::*;
use flate2::write::GzEncoder;
use std::io::Write;
use tar::{EntryType, Header};
use zip::write::SimpleFileOptions;

fn header(name: &str, kind: EntryType, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_cksum();
    header
}

fn tar_of(members: &[(Header, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    members.iter().for_each(|(header, data)| archive.append(header, *data).unwrap());
    archive.into_inner().unwrap()
}

fn file(name: &str, data: &'static [u8]) -> (Header, &'static [u8]) {
    (header(name, EntryType::Regular, data.len()), data)
}

/// The names kept from an archive, and the refusals, when `unpacked` bytes have been unpacked already.
fn read(unpacked: u64, data: &[u8]) -> Result<(Vec<String>, Vec<String>)> {
    let wants = |name: &str| if name.ends_with(".rs") { Use::Keep } else { Use::Pass };
    let mut unpacker = Unpacker::new(&wants);
    unpacker.unpacked.set(unpacked);
    unpacker.archive_at("", "s", Cursor::new(data), 1)?;
    let refused = unpacker.refused.iter().map(|refusal| refusal.why.clone());
    Ok((unpacker.found.keys().cloned().collect(), refused.collect()))
}

fn too_much(unpacked: u64, data: &[u8]) -> String {
    let error = read(unpacked, data).expect_err("it is too much");
    assert!(error.is::<TooMuch>(), "{error:#}");
    error.to_string()
}

#[test]
fn names_have_an_end() {
    let too_long = Err("a name that is too long");
    assert_eq!(plain(&"a/".repeat(65)), too_long);
    assert_eq!(plain(&"x".repeat(1025)), too_long);
    assert_eq!(plain(&"\\".repeat(1025)), too_long);
    assert!(plain(&"a/".repeat(64)).is_ok() && plain(&"x".repeat(1024)).is_ok());
    let name = "a/".repeat(2000);
    let long = (header("././@LongLink", EntryType::GNULongName, name.len()), name.as_bytes());
    let read = read(0, &tar_of(&[long, file("x", b""), file("a.rs", b"1")])).unwrap();
    assert_eq!(read, (vec!["a.rs".to_owned()], vec!["a name that is too long".to_owned()]));
}

#[test]
fn headers_of_tar_have_an_end() {
    let large = vec![b'x'; 3 << 20];
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let data = tar_of(&[(header("x", kind, large.len()), &large), file("a.rs", b"1")]);
        assert_eq!(too_much(0, &data), "a name in an archive, or what belongs to it, takes more than 1 MiB");
    }
    // Ignored files have no such limit, and neither have the headers before their names.
    let mut sparse = header("hole", EntryType::GNUSparse, large.len());
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.realsize.copy_from_slice(format!("{:011o}\0", large.len()).as_bytes());
    gnu.sparse[0].offset.copy_from_slice(b"00000000000\0");
    gnu.sparse[0].numbytes.copy_from_slice(format!("{:011o}\0", large.len()).as_bytes());
    sparse.set_cksum();
    for other in [sparse, header("film", EntryType::Regular, large.len())] {
        let data = tar_of(&[(other, &large), file("a.rs", b"1")]);
        assert_eq!(read(0, &data).unwrap(), (vec!["a.rs".to_owned()], vec![]));
    }
}

/// The first bytes of a ZIP archive.
const LOCAL: &[u8] = b"PK\x03\x04";

#[test]
fn directories_of_zip_have_an_end() {
    let many = 600_000u64.to_le_bytes();
    let end64 = [b"PK\x06\x06", &44u64.to_le_bytes()[..], &[0; 12], &many, &many, &[0; 16]].concat();
    let locator = [b"PK\x06\x07", &[0; 4][..], &0u64.to_le_bytes(), &1u32.to_le_bytes()].concat();
    let end = [b"PK\x05\x06\0\0\0\0", &[0xff; 12][..], &[0; 2]].concat();
    assert_eq!(too_much(0, &[LOCAL, &end64, &locator, &end].concat()), "more than 500000 names");
    // Each end leads to a directory without an end of its own; the search must not read that each time.
    let record = [b"PK\x01\x02", &[0; 42][..]].concat();
    let end = [b"PK\x05\x06\0\0\0\0", &[0xff; 4][..], &[0; 8], &[0; 2]].concat();
    let mut data = record.repeat(1000);
    data.extend(end.repeat(1000));
    let left = Rc::new(Cell::new(0));
    assert!(zips::open(&mut Cursor::new(&data), &left).is_err());
    assert_eq!(left.get(), 0);
}

#[test]
fn too_much_ends_all() {
    let data = b"0123456789";
    let tar = tar_of(&[file("a.rs", data), file("b.rs", data)]);
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for name in ["a.rs", "b.rs"] {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(data).unwrap();
    }
    for packed in [tar, gzip.finish().unwrap(), zip.finish().unwrap().into_inner()] {
        let said = "it unpacks to more than 2048 MiB: leave out what is built";
        assert_eq!(too_much(UNPACKED_MOST - 5, &packed), said);
    }
}
