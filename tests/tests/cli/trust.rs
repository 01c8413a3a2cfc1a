//! `--trust`: whose signatures count.

use slotfs_tests::command::{Done, Home};
use slotfs_tests::package::index;

use super::packages::application;

fn package(home: &Home, file: &str, seed: &str) {
    home.package(file, application().key_seed(seed));
}

fn extract(home: &Home, package: &str, more: &[&str]) -> Done {
    let line = [&["extract", "--force", package, "copy"], more].concat();
    home.run(line)
}

fn trust_key(home: &Home, package: &str) {
    let path = home.path(package);
    let package = slotfs_fs::package::Package::open(&path, &Default::default()).unwrap();
    let key = package.evidence().unwrap().public_key;
    let folder = home.path(".config/flavor/trusted-keys");
    std::fs::create_dir_all(&folder).unwrap();
    let der = [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0][..], &key].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", base64(&der));
    std::fs::write(folder.join("publisher.pub"), pem).unwrap();
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |part: &[u8]| {
        let word =
            part.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        let digit = |place: u32| char::from(DIGITS[(word >> (18 - 6 * place) & 63) as usize]);
        (0..4).map(|place| if place as usize <= part.len() { digit(place) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

#[test]
fn the_first_key_is_pinned_and_another_one_refused_until_it_is_accepted() {
    let home = Home::new();
    let pins = home.path(".config/slotfs/pins.json");
    package(&home, "hello.psp", "one");
    extract(&home, "hello.psp", &[]).success();
    home.run(["verify", "hello.psp", "--trust", "pinned"]).success();
    assert!(!pins.exists(), "a check pins nothing, nor does who trusts anybody");
    extract(&home, "hello.psp", &["--trust", "pinned"]).success();
    let first = std::fs::read_to_string(&pins).unwrap();
    // Another build with the same key, and the same package by another name.
    home.package("again.psp", application().key_seed("one"));
    extract(&home, "again.psp", &["--trust", "pinned"]).success();
    package(&home, "hello.psp", "two");
    extract(&home, "hello.psp", &[]).success();
    for level in ["strict", "none"] {
        let refused = extract(&home, "hello.psp", &["--trust", "pinned", "--verify", level]).code(107);
        let (message, hint) = (&refused.stderr, "pass `--accept-key` once");
        assert!(message.contains("when it was first used") && message.contains(hint), "{message}");
    }
    let shown = home.run(["verify", "hello.psp", "--trust", "pinned"]).code(107).stdout;
    assert!(shown.contains("refused: it was signed with the key"), "{shown}");
    assert_eq!(std::fs::read_to_string(&pins).unwrap(), first, "a refusal changes nothing");
    extract(&home, "hello.psp", &["--trust", "pinned", "--accept-key"]).success();
    extract(&home, "hello.psp", &["--trust", "pinned"]).success();
    // Now the old one is the stranger. From a variable and the file it is the same.
    let mut command = home.slotfs(["extract", "--force", "again.psp", "copy"]);
    Done::of(command.env("SLOTFS_TRUST", "pinned")).code(107);
    std::fs::create_dir_all(home.path(".config/slotfs")).unwrap();
    std::fs::write(home.path(".config/slotfs/config.json"), r#"{ "trust": "pinned" }"#).unwrap();
    extract(&home, "again.psp", &[]).code(107);
    extract(&home, "again.psp", &["--trust", "any"]).success();
    // Nobody's signature is no way around it, nor is a file that cannot be read.
    let built = application().build().with_index(|bytes| bytes[index::SIGNATURE..][..512].fill(0));
    built.write(&home.path("hello.psp"));
    let unsigned = extract(&home, "hello.psp", &["--verify", "none"]).code(107);
    assert!(unsigned.stderr.contains("not signed by anybody"), "{}", unsigned.stderr);
    std::fs::write(&pins, "{").unwrap();
    let garbled = extract(&home, "again.psp", &[]).code(109);
    assert!(garbled.stderr.contains("pins.json"), "{}", garbled.stderr);
}

#[test]
fn known_keys_are_those_of_flavorpacks_own_key_stores() {
    let home = Home::new();
    package(&home, "hello.psp", "one");
    let refused = extract(&home, "hello.psp", &["--trust", "known"]).code(107);
    assert!(refused.stderr.contains("only known keys are trusted"), "{}", refused.stderr);
    assert!(refused.stderr.contains("`trusted-keys` directory"), "{}", refused.stderr);
    trust_key(&home, "hello.psp");
    extract(&home, "hello.psp", &["--trust", "known"]).success();
    package(&home, "stranger.psp", "two");
    extract(&home, "stranger.psp", &["--trust", "known"]).code(107);
    assert!(extract(&home, "stranger.psp", &[]).success().stderr.contains("not among the trusted keys"));
    // A wrong signature says nothing about who made it; archives have none.
    let forged = application().key_seed("one").build().with_index(|bytes| bytes[index::SIGNATURE] ^= 1);
    forged.write(&home.path("forged.psp"));
    extract(&home, "forged.psp", &["--trust", "known", "--verify", "none"]).code(107);
    std::fs::write(home.path("a.tar"), slotfs_tests::package::Tree::new().file("f", 0o644, b"x").archive())
        .unwrap();
    extract(&home, "a.tar", &["--trust", "known"]).code(107);
    extract(&home, "a.tar", &["--trust", "pinned"]).success();
    // What an operator asks for holds, whatever the user trusts.
    let policy = r#"{"version": 1, "trust": {"require_trusted_key": true}}"#;
    std::fs::write(home.path(".config/flavor/policy.json"), policy).unwrap();
    extract(&home, "stranger.psp", &["--trust", "any"]).code(107);
    extract(&home, "hello.psp", &["--trust", "any"]).success();
    let wrong = extract(&home, "hello.psp", &["--trust", "everybody"]).code(2);
    assert!(wrong.stderr.contains("`any`, `known` or `pinned`"), "{}", wrong.stderr);
}
