//! What an intact package is read as, and what is said about paths that hold none.

use slotfs_fs::disk::digest::Digest;
use slotfs_fs::package::signature::{Claim, SignatureState};
use slotfs_fs::package::{Compression, Container, Limits, Package, PackageKind};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree, hex, index};

use crate::support::{open, sample};

fn path_of(package: &Package, slot: usize) -> String {
    let names = package.slots()[slot].target.iter().map(|name| String::from_utf8_lossy(name));
    names.collect::<Vec<_>>().join("/")
}

#[test]
fn an_intact_package_is_read_as_it_was_built() {
    let built = sample().section("policy", serde_json::json!({"refuse_root": true})).build();
    let package = open(&built.bytes).unwrap();
    assert_eq!((package.kind(), package.name(), package.version()), (PackageKind::Pspf, "sample", "1.2.3"));
    assert_eq!(package.metadata_json(), built.json);
    assert_eq!(package.metadata().execution.as_ref().unwrap().command, "/bin/true");

    let checksum = package.index().unwrap().checksum_text();
    let id = Digest::of(format!("sample:1.2.3:{checksum}").as_bytes()).to_string();
    assert_eq!(package.id(), &id[..16]);

    let evidence = package.evidence().unwrap();
    assert_eq!(evidence.signature, SignatureState::Valid);
    assert_eq!(evidence.fingerprint_claim, Claim::True);
    assert_eq!((evidence.attestation_claim, evidence.policy_claim), (Claim::Absent, Claim::Absent));

    let [tree, settings, data] = package.slots() else { panic!("{:?}", package.slots()) };
    assert_eq!((tree.chain.as_str(), &tree.source.container), ("tar.gzip", &Container::Tar));
    assert_eq!(tree.source.compressions, [Compression::Gzip]);
    assert!(tree.target.is_empty());
    assert_eq!((settings.chain.as_str(), settings.permissions), ("raw", 0o644));
    assert_eq!(path_of(&package, 1), "etc/settings");
    assert_eq!((data.lifecycle.as_str(), data.lifecycle_code), ("lazy", 6));
    for (slot, place) in package.slots().iter().zip(&built.slots) {
        let bytes = &built.bytes[place.clone()];
        assert_eq!(
            (slot.source.stored.offset(), slot.source.stored.len()),
            (place.start as u64, bytes.len() as u64)
        );
        assert_eq!(slot.digest, Some(Digest::of(bytes)));
        assert_eq!(slot.short_checksum.unwrap(), Digest::of(bytes).0[..8]);
    }
}

#[test]
fn a_package_of_no_slots_is_a_package() {
    assert!(open(&PackageBuilder::new("none", "0").build().bytes).unwrap().slots().is_empty());
}

#[test]
fn targets_are_placed_as_the_launchers_place_them() {
    for (target, chain, path) in [
        ("{workenv}/bin/x", "raw", "bin/x"),
        ("./bin//x/", "gzip", "bin/x"),
        ("", "raw", "slot_0_the id"),
        ("{workenv}", "raw", "slot_0_the id"),
        ("../outside", "tar", ""),
        ("/absolute", "tar.gzip", ""),
    ] {
        let slot = match chain.starts_with("tar") {
            true => SlotSpec::tree("the id", chain, Tree::new()).key("target", target.into()),
            false => SlotSpec::file("the id", target, chain, b"x"),
        };
        let package = open(&PackageBuilder::new("n", "1").slot(slot).build().bytes).unwrap();
        assert_eq!(path_of(&package, 0), path, "{target}");
        assert_eq!(package.slots()[0].target_text, target);
    }
}

#[test]
fn a_slot_without_a_mode_is_private_and_set_id_bits_are_told() {
    let package = PackageBuilder::new("n", "1")
        .slot(SlotSpec::file("a", "a", "raw", b"").permissions(0))
        .slot(SlotSpec::file("b", "b", "raw", b"").permissions(0o4755));
    let package = open(&package.build().bytes).unwrap();
    let modes: Vec<u32> = package.slots().iter().map(|slot| slot.permissions).collect();
    assert_eq!(modes, [0o600, 0o4755]);
}

#[test]
fn a_reference_to_the_launcher_is_the_launcher() {
    let launcher = b"#!/bin/sh\necho launched\n";
    let built = PackageBuilder::new("n", "1")
        .launcher(launcher)
        .slot(SlotSpec::file("a", "a", "raw", b"x"))
        .slot(SlotSpec::self_reference("self", "bin/self").key("permissions", "0755".into()))
        .build();
    let package = open(&built.bytes).unwrap();
    let slot = &package.slots()[1];
    assert!(slot.self_reference && slot.digest.is_none() && slot.short_checksum.is_none());
    assert_eq!((slot.permissions, slot.chain.as_str()), (0o755, "raw"));
    let mut content = vec![0; launcher.len()];
    slot.source.stored.read_exact_at(0, &mut content).unwrap();
    assert_eq!(content, launcher);
    assert_eq!(slot.source.stored.len(), launcher.len() as u64);
}

#[test]
fn descriptors_beyond_the_listed_slots_are_ignored() {
    let package = open(&sample().extra_descriptors(2).build().bytes).unwrap();
    assert_eq!(package.slots().len(), 3);
    assert_eq!(package.index().unwrap().slot_count.get(), 5);
}

#[test]
fn claims_of_the_index_are_compared_with_what_is_there() {
    let attestation = br#"{"sbom":{}}"#;
    let policy = serde_json::json!({"platforms": ["linux_amd64"], "refuse_root": false});
    let canonical = br#"{"platforms":["linux_amd64"],"refuse_root":false}"#;
    let package = |content: &'static [u8], policy: serde_json::Value| {
        PackageBuilder::new("n", "1")
            .slot(SlotSpec::file("_attestation", "_attestation", "raw", content).lifecycle("attestation", 11))
            .section("policy", policy)
            .edit_index(move |block| {
                let write = |block: &mut [u8], offset: usize, bytes: &[u8]| {
                    block[offset..][..64].copy_from_slice(hex(&Digest::of(bytes).0).as_bytes());
                };
                write(block, index::ATTESTATION_DIGEST, attestation);
                write(block, index::POLICY_HASH, canonical);
            })
            .build()
            .bytes
    };
    for (content, policy, attested, policed) in [
        (&attestation[..], policy.clone(), Claim::True, Claim::True),
        (b"other", policy.clone(), Claim::False, Claim::True),
        (attestation, serde_json::Value::Null, Claim::True, Claim::False),
    ] {
        let package = open(&package(content, policy)).unwrap();
        let evidence = package.evidence().unwrap();
        assert_eq!((evidence.attestation_claim, evidence.policy_claim), (attested, policed));
    }
}

#[test]
fn paths_that_hold_no_package_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let told = |name: &str, bytes: Option<&[u8]>| {
        let path = folder.path().join(name);
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).unwrap();
        }
        let error = Package::open(&path, &Limits::default()).unwrap_err();
        assert_eq!(error.path(), path);
        error.to_string().replace(&format!("{}/", folder.path().display()), "")
    };
    for (name, bytes, message) in [
        ("absent", None, "cannot open `absent`: there is no such file or directory"),
        ("empty", Some(&b""[..]), "`empty` is not a package: it is empty"),
        (
            "cut.psp",
            Some(b"\x7FELF"),
            "`cut.psp` is not a package: its last 4 bytes are not the end mark of PSPF/2025 (was it cut off, or \
             something added?)",
        ),
        (
            "program",
            Some(b"\x7FELF"),
            "`program` is not a package: its last 4 bytes are not the end mark of PSPF/2025, and its first are not \
             those of an archive",
        ),
        ("empty/inside", None, "cannot open `empty/inside`: there is no such file or directory"),
    ] {
        assert_eq!(told(name, bytes), message);
    }
}

#[cfg(unix)]
#[test]
fn devices_pipes_and_sockets_are_named_and_never_opened() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, kind) in [
        ("/dev/null".as_ref(), "a character device"),
        (pipe.as_path(), "a named pipe"),
        (socket.as_path(), "a socket"),
    ] {
        let error = Package::open(path, &Limits::default()).unwrap_err().to_string();
        assert_eq!(error, format!("`{}` is {kind}, not a package", path.display()));
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_a_package_is_the_package() {
    let folder = tempfile::tempdir().unwrap();
    crate::support::built().write(&folder.path().join("app.psp"));
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("app.psp", &link).unwrap();
    assert_eq!(Package::open(&link, &Limits::default()).unwrap().name(), "sample");
}

#[cfg(unix)]
#[test]
fn writing_to_an_open_package_shows_and_replacing_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.psp");
    crate::support::built().write(&path);
    let package = Package::open(&path, &Limits::default()).unwrap();
    assert!(package.unchanged().unwrap());
    let old = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    crate::support::built().write(&path);
    assert!(package.unchanged().unwrap(), "a removed file is still the file that was opened");
    std::thread::sleep(std::time::Duration::from_millis(20));
    crate::support::write_at(&old, b"x", 0);
    assert!(!package.unchanged().unwrap());
}
