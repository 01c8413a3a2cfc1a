//! Bare archives, compressed files and directories as packages of one slot.

use std::io::Write as _;
use std::path::Path;

use slotfs_fs::package::verify::{Outcome, verify};
use slotfs_fs::package::{Compression, Container, Limits, Package, PackageKind};
use slotfs_tests::package::{Tree, compress};

use crate::support::open_as;

fn tar() -> Vec<u8> {
    Tree::new().file("a/b", 0o644, b"content").archive()
}

fn zip() -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("a", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(b"content").unwrap();
    writer.finish().unwrap().into_inner()
}

/// A header as tar wrote it before POSIX: no magic, only the sum tells.
fn old_tar() -> Vec<u8> {
    let mut header = tar::Header::new_old();
    header.set_path("a").unwrap();
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    [header.as_bytes().as_slice(), &[0; 1024]].concat()
}

#[test]
fn archives_are_known_by_their_bytes_whatever_their_name() {
    use Compression::{Bzip2, Gzip, Xz, Zstd};
    let packed = |compression: &str| compress(compression, &tar());
    for (bytes, compressions, chain) in [
        (tar(), vec![], "tar"),
        (old_tar(), vec![], "tar"),
        (packed("gzip"), vec![Gzip], "tar.gzip"),
        (packed("bzip2"), vec![Bzip2], "tar.bzip2"),
        (packed("xz"), vec![Xz], "tar.xz"),
        (packed("zstd"), vec![Zstd], "tar.zstd"),
        ([b"\x50\x2A\x4D\x18\x02\0\0\0hi".as_slice(), &packed("zstd")].concat(), vec![Zstd], "tar.zstd"),
        (zip(), vec![], "zip"),
    ] {
        let package = open_as("thing.bin", &bytes).unwrap();
        assert_eq!((package.kind(), package.name()), (PackageKind::Archive, "thing.bin"), "{chain}");
        let [slot] = package.slots() else { panic!("{:?}", package.slots()) };
        let container = if chain == "zip" { Container::Zip } else { Container::Tar };
        assert_eq!((slot.chain.as_str(), &slot.source.container), (chain, &container));
        assert_eq!(slot.source.compressions, compressions);
        assert!(slot.target.is_empty());
        assert!(package.evidence().is_none() && package.index().is_none());
        let verification = verify(&package, &|_| {}).unwrap();
        assert_eq!(verification.slots[0].outcome, Outcome::Unstated);
        assert_eq!(verification.slots[0].digest, Some(slotfs_fs::disk::digest::Digest::of(&bytes)));
    }
}

#[test]
fn an_archive_is_named_after_its_file() {
    for (file, name) in [
        ("data-1.0.tar.gz", "data-1.0"),
        ("data.tgz", "data"),
        ("data.tar.zst", "data"),
        ("data.tar", "data"),
        ("x/y/data.v2", "data.v2"),
        (".tar", ".tar"),
    ] {
        assert_eq!(open_as(file, &compress("gzip", &tar())).unwrap().name(), name, "{file}");
    }
    assert_eq!(open_as("numpy-2.0-cp311.whl", &zip()).unwrap().name(), "numpy-2.0-cp311");
}

#[test]
fn a_compressed_file_is_one_file_without_the_suffix() {
    for (file, compression, target) in [
        ("notes.txt.gz", "gzip", "notes.txt"),
        ("notes.xz", "xz", "notes"),
        ("notes.bz2", "bzip2", "notes"),
        ("notes.zst", "zstd", "notes"),
        ("notes", "gzip", "notes"),
        (".gz", "gzip", ".gz"),
        // A tar by name whose first bytes are no tar header.
        ("notes.tar.gz", "gzip", "notes.tar"),
    ] {
        let package = open_as(file, &compress(compression, &[b'x'; 2000])).unwrap();
        assert_eq!(package.kind(), PackageKind::CompressedFile, "{file}");
        assert_eq!(package.slots()[0].target, [target.as_bytes()], "{file}");
        assert_eq!(package.slots()[0].chain, compression);
    }
}

#[test]
fn an_archive_of_nothing_needs_its_name() {
    let nothing = vec![0; 10_240];
    assert_eq!(open_as("none.tar", &nothing).unwrap().slots()[0].source.container, Container::Tar);
    let packed = compress("gzip", &nothing);
    assert_eq!(open_as("none.tgz", &packed).unwrap().slots()[0].source.container, Container::Tar);
    assert_eq!(open_as("zeros.gz", &packed).unwrap().slots()[0].source.container, Container::File);
    assert!(open_as("zeros", &nothing).is_err());
}

#[test]
fn a_file_that_only_starts_like_an_archive_is_refused_with_the_reason() {
    for (bytes, told) in [
        (&b"\x1F\x8B\x08\xFF broken"[..], "`x.gz` is damaged: it starts like gzip but does not decode: "),
        (
            b"BZh9\x31\x41\x59\x26\x53\x59 broken",
            "`x.gz` is damaged: it starts like bzip2 but does not decode: ",
        ),
        (b"\xFD7zXZ\0 broken", "`x.gz` is damaged: it starts like xz but does not decode: "),
        (b"\x28\xB5\x2F\xFD broken", "`x.gz` is damaged: it starts like zstd but does not decode: "),
    ] {
        let error = open_as("x.gz", bytes).unwrap_err().to_string();
        assert!(error.starts_with(told), "{error}");
    }
    for bytes in [&b"BZhello"[..], b"PK", b"\x1F\x8B"] {
        assert!(
            open_as("x", bytes).unwrap_err().to_string().contains("its first are not those of an archive")
        );
    }
}

#[test]
fn a_damaged_package_is_never_taken_for_an_archive() {
    let error = open_as("app.psp", &compress("gzip", &tar())).unwrap_err().to_string();
    assert!(error.contains("(was it cut off, or something added?)"), "{error}");
}

#[test]
fn a_decoder_may_not_take_more_memory_than_allowed() {
    let limits = Limits { decoder_memory: 1 << 16, ..Limits::default() };
    for compression in ["xz", "zstd"] {
        let bytes = compress(compression, &vec![1; 1 << 20]);
        let file = crate::support::file_of(&bytes);
        let error = Package::read(file, Path::new("x"), &limits).unwrap_err().to_string();
        assert!(error.contains("does not decode"), "{error}");
    }
}

#[test]
fn a_directory_is_a_package_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("project");
    std::fs::create_dir(&inside).unwrap();
    let package = Package::open(&inside, &Limits::default()).unwrap();
    assert_eq!((package.kind(), package.name()), (PackageKind::Directory, "project"));
    let container = &package.slots()[0].source.container;
    assert_eq!(container, &Container::Directory(std::fs::canonicalize(&inside).unwrap()));
    assert_eq!(verify(&package, &|_| {}).unwrap().slots[0].digest, None);
    let by_detour = Package::open(&inside.join("../project/."), &Limits::default()).unwrap();
    assert_eq!((by_detour.name(), by_detour.id()), ("project", package.id()));
}

#[test]
fn ids_tell_archives_apart_and_survive_copying() {
    let first = compress("gzip", &tar());
    let second = compress("gzip", &Tree::new().file("a/b", 0o644, b"Content").archive());
    let id = |bytes: &[u8]| open_as("a.tgz", bytes).unwrap().id().to_owned();
    assert_eq!(id(&first), id(&first));
    assert_ne!(id(&first), id(&second));
    assert_eq!(id(&first).len(), 16);
}
