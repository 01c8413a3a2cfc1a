//! Building and running programs in the mount: compilers, libraries, scripts, replacing what runs.

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
