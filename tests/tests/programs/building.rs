//! Building and running programs in the mount: compilers, libraries, scripts, replacing what runs.

use std::path::Path;

use slotfs_tests::workplace::{Workplace, installed};

const SOURCES: &str = r#"
    mkdir -p source
    cat > source/library.c <<'END'
int answer(void) { return 41; }
END
    cat > source/main.c <<'END'
#include <stdio.h>
int answer(void);
int main(void) { printf("the answer is %d\n", answer()); return 0; }
END
"#;

const BUILD: &str = r#"
    mkdir -p built
    gcc -c -fPIC -o built/library.o source/library.c
    rm -f built/library.a; ar rc built/library.a built/library.o
    gcc -shared -o built/libanswer.so built/library.o
    gcc -o built/static source/main.c built/library.a
    gcc -o built/dynamic source/main.c -Lbuilt -lanswer -Wl,-rpath,'$ORIGIN'
"#;

const RUN: &str =
    "./built/static; built/dynamic; printf '#!/bin/sh\\necho $0 $1\\n' > script; chmod +x script; ./script x";

#[test]
fn what_was_compiled_in_the_mount_runs_there() {
    if !installed("gcc") {
        return;
    }
    let Some(mut place) = Workplace::new() else { return };
    place.run(SOURCES);
    place.run(BUILD);
    let expected = |number: u32| format!("the answer is {number}\nthe answer is {number}\n./script x\n");
    assert_eq!(place.run(RUN), expected(41));
    place.settle();
    assert_eq!(place.run(RUN), expected(41));
    place.run("sed -i s/41/42/ source/library.c");
    place.run(BUILD);
    assert_eq!(place.run(RUN), expected(42));
    place.remount_unchanged();
    assert_eq!(place.run(RUN), expected(42));
}

#[test]
fn a_program_that_runs_can_be_replaced_but_not_written_to() {
    let Some(mut place) = Workplace::new() else { return };
    place.run("cp /bin/sleep sleeper");
    for _ in 0..2 {
        place.run(
            r#"
            ./sleeper 60 & first=$!
            sleep 0.1
            ! (: >> sleeper) 2> message
            grep -q 'Text file busy' message
            cp /bin/echo new && mv new sleeper
            [ "$(./sleeper replaced)" = replaced ]
            kill -0 $first; kill $first
            wait $first || true
            chmod 644 sleeper; ! ./sleeper 2> /dev/null; rm -f sleeper
            cp /bin/sleep sleeper
            "#,
        );
        place.settle();
    }
    place.remount_unchanged();
}

/// A workspace of a library with a build script, and a program that uses it.
const CRATES: &str = r#"
    mkdir -p crates/answer/src crates/ask/src
    cd crates
    printf '[workspace]\nmembers = ["answer", "ask"]\nresolver = "2"\n' > Cargo.toml
    printf '[package]\nname = "answer"\nversion = "0.1.0"\nedition = "2021"\n' > answer/Cargo.toml
    cat > answer/build.rs <<'END'
fn main() {
    let place = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap()).join("made.rs");
    std::fs::write(place, "pub const MADE: u32 = 40;").unwrap();
    println!("cargo:rerun-if-changed=build.rs");
}
END
    cat > answer/src/lib.rs <<'END'
include!(concat!(env!("OUT_DIR"), "/made.rs"));
pub fn answer() -> u32 { MADE + 1 }
#[test]
fn it_is_more() { assert!(answer() > MADE); }
END
    printf '[package]\nname = "ask"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nanswer = { path = "../answer" }\n' > ask/Cargo.toml
    echo 'fn main() { println!("the answer is {}", answer::answer()); }' > ask/src/main.rs
"#;

#[test]
fn cargo_builds_in_the_mount_and_knows_what_is_fresh() {
    if !installed("cargo") || !installed("gcc") {
        return;
    }
    let tools = tools();
    let Some(mut place) = Workplace::new() else { return };
    let cargo = |arguments: &str| {
        format!(
            "unset ${{!CARGO@}} ${{!RUST@}}
             export PATH={}/bin:$PATH CARGO_HOME=$PWD/home CARGO_TERM_COLOR=never
             cd crates; cargo --offline {arguments} 2>&1",
            tools
        )
    };
    place.run(CRATES);
    let built = place.run(&cargo("build --jobs 2"));
    assert!(built.contains("Compiling answer") && built.contains("Compiling ask"), "{built}");
    let fresh = |place: &Workplace| {
        let again = place.run(&cargo("build"));
        assert!(again.contains("Finished") && !again.contains("Compiling"), "{again}");
        assert_eq!(place.run("crates/target/debug/ask"), "the answer is 41\n");
    };
    fresh(&place);
    place.remount_unchanged();
    // It compares times, sizes and numbers of what it has made.
    fresh(&place);
    place.settle();
    fresh(&place);
    place.run("cd crates; sed -i 's/MADE + 1/MADE + 2/' answer/src/lib.rs");
    let changed = place.run(&cargo("build"));
    assert!(changed.contains("Compiling answer"), "{changed}");
    assert_eq!(place.run("crates/target/debug/ask"), "the answer is 42\n");
    let tested = place.run(&cargo("test -p answer --lib"));
    assert!(tested.contains("1 passed"), "{tested}");
    place.run(&cargo("clean"));
    assert!(!place.path("crates/target").exists());
    place.run(&cargo("build --release -p ask"));
    place.remount_unchanged();
    assert_eq!(place.run("crates/target/release/ask"), "the answer is 42\n");
}

/// Where the tools of this very build are, whatever the home of the user in the mount is.
fn tools() -> String {
    let found = std::process::Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

/// Set where there is time to build all of it.
const ITSELF: &str = "SLOTFS_TEST_BUILD_ITSELF";

#[test]
fn slotfs_is_built_in_a_mount_of_slotfs() {
    let Some(place) = Workplace::new() else { return };
    let package = if std::env::var_os(ITSELF).is_some() { "slotfs" } else { "slotfs-policy" };
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().display();
    let crates = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| home + "/.cargo"));
    let script = format!(
        "unset ${{!CARGO@}} ${{!RUST@}}
         export PATH={}/bin:$PATH CARGO_HOME={} CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0
         mkdir itself; cd itself
         tar -C {sources} --exclude=./target --exclude=./.git -cf - . | tar -xf -
         cargo build --offline --locked --jobs 2 --package {package} \\
             --config 'profile.dev.package.\"*\".opt-level=0' 2>&1
         ! [ -e target/debug/slotfs ] || target/debug/slotfs --version",
        tools(),
        crates.unwrap()
    );
    let said = place.run(&script);
    let version = format!("slotfs {}", env!("CARGO_PKG_VERSION"));
    let last = said.lines().last().unwrap();
    let expected = if package == "slotfs" { version.as_str() } else { "Finished" };
    assert!(last.trim_start().starts_with(expected), "{said}");
}
