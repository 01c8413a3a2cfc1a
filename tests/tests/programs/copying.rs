//! Whole trees through `tar`, `rsync`, `cp` and `find`: in, out, inside, and over what lies in a slot.

use std::path::PathBuf;

use slotfs_tests::tree::describe;
use slotfs_tests::workplace::{Workplace, assert_same, installed};

/// A tree with everything that archives lose first.
const SOURCE: &str = r#"
    mkdir -p "$OUTSIDE/source" && cd "$OUTSIDE/source"
    mkdir -p plain/deep/er "with space" empty "$(printf 'line\nbreak')" ünïcode
    for number in $(seq 150); do seq "$number" > "plain/file$number"; done
    printf '' > plain/nothing
    head -c 300000 /dev/urandom > plain/deep/er/random
    head -c 70000 /dev/urandom > "$(printf '%0255d' 7)"
    echo text > "$(printf 'line\nbreak')/$(printf '\377\376')"
    truncate -s 5M sparse && printf data | dd of=sparse bs=1 seek=2000000 conv=notrunc status=none
    ln -s plain/file1 link && ln -s /nowhere/at/all dangling && ln -s ../plain "with space/up"
    ln plain/file2 "with space/hard" && ln plain/file2 hard && ln link link-to-link 2>/dev/null || true
    mkfifo plain/fifo
    chmod 4755 plain/file3; chmod 000 plain/file4; chmod 2775 plain/deep; chmod 1777 empty; chmod 555 plain/deep/er
    touch -d '1971-02-03 04:05:06.789012345' plain/file5; touch -h -d '2001-01-01' link; touch -d '2040-05-06' sparse
    mkdir -p "$(printf 'd/%.0s' $(seq 60))" && echo bottom > "$(printf 'd/%.0s' $(seq 60))bottom"
    setfattr -n user.comment -v hello plain/file6
    setfacl -m u:daemon:rw plain/file7
    # rsync takes links, fifos and such for equal that were made in the same second.
    find . '(' -type l -o -type p ')' -print0 | xargs -0 touch -h -d '2002-03-04 05:06:07.891'
    if [ "$(id -u)" = 0 ]; then chown -R 1:2 ünïcode plain/file8; chown -h 3:4 link; fi
"#;

fn missing() -> bool {
    ["tar", "rsync", "setfattr", "setfacl"].into_iter().any(|name| !installed(name))
}

fn source(place: &Workplace) -> PathBuf {
    place.run(SOURCE);
    place.beside("outside").join("source")
}

/// rsync compares attributes, links, access lists and content, and lists what differs.
fn differences(place: &Workplace, one: &str, other: &str) -> String {
    place.run(&format!("rsync -aHAXS --checksum --dry-run --itemize-changes --delete {one}/ {other}/"))
}

#[test]
fn tar_and_cp_keep_everything_both_ways() {
    if missing() {
        return;
    }
    let Some(mut place) = Workplace::new() else { return };
    let source = source(&place);
    let expected = describe(&source);
    let options = "--xattrs --acls --sparse";
    place.run(&format!(
        "mkdir tarred && tar -C \"$OUTSIDE/source\" -c {options} . | tar -C tarred -xp {options}"
    ));
    assert_same(&expected, &describe(&place.path("tarred")), "in the mount");
    assert_eq!(differences(&place, "\"$OUTSIDE/source\"", "tarred"), "");
    place.settle();
    // Out of the slot, and inside.
    place.run("cp -a tarred copied && cp -a tarred \"$OUTSIDE/out\"");
    assert_same(&expected, &describe(&place.path("copied")), "copied inside");
    assert_same(&expected, &describe(&place.beside("outside").join("out")), "copied out");
    place.run(&format!(
        "tar -C tarred -c {options} . > archive.tar && tar -C \"$OUTSIDE/source\" --compare {options} -f archive.tar"
    ));
    // Over the slot: every file is replaced by one of the same name.
    place.run(&format!("tar -C tarred -xp {options} -f archive.tar"));
    assert_same(&expected, &describe(&place.path("tarred")), "unpacked over the slot");
    assert_eq!(place.run("stat -c %h tarred/hard").trim(), "3");
    place.remount_unchanged();
    assert_eq!(differences(&place, "\"$OUTSIDE/source\"", "tarred"), "");
    assert_eq!(differences(&place, "copied", "tarred"), "");
}

#[test]
fn rsync_brings_a_slot_up_to_date_and_back() {
    if missing() {
        return;
    }
    let Some(mut place) = Workplace::new() else { return };
    let source = source(&place);
    place.run("rsync -aHAXS \"$OUTSIDE/source/\" tree/");
    assert_same(&describe(&source), &describe(&place.path("tree")), "in the mount");
    place.settle();
    place.run(
        r#"
        cd "$OUTSIDE/source"
        rm -r ünïcode plain/file1? && echo changed >> plain/file21 && mv "with space" renamed
        rm plain/file22 && mkdir plain/file22 && echo in > plain/file22/new
        rm -r d && echo file > d
        chmod 640 plain/file23 && ln plain/file24 again && setfattr -x user.comment plain/file6
        ln -sfn elsewhere link && touch -h -d '2003-04-05' link
        "#,
    );
    place.run("rsync -aHAXS --delete \"$OUTSIDE/source/\" tree/");
    assert_eq!(differences(&place, "\"$OUTSIDE/source\"", "tree"), "");
    assert_same(&describe(&source), &describe(&place.path("tree")), "brought up to date");
    // In place, into the middle of files that lie in the slot.
    place.run(
        "printf X | dd of=\"$OUTSIDE/source/plain/deep/er/random\" bs=1 seek=123456 conv=notrunc status=none
         rsync -aHAX --checksum --inplace --no-whole-file \"$OUTSIDE/source/\" tree/",
    );
    place.remount_unchanged();
    place.run("rsync -aHAXS tree/ \"$OUTSIDE/back/\"");
    assert_same(&describe(&source), &describe(&place.beside("outside").join("back")), "brought back");
}

#[test]
fn find_sees_and_deletes_what_is_there() {
    if missing() {
        return;
    }
    let Some(mut place) = Workplace::new() else { return };
    let outside = source(&place);
    place.run("cp -a \"$OUTSIDE/source\" tree");
    place.settle();
    let list = "find . -printf '%y %m %s %n %p %l\\0' | grep -zv ^d | sort -z | tr '\\0' '\\n'";
    let listed = place.run(&format!("cd tree && {list}"));
    assert_eq!(listed, place.run(&format!("cd \"{}\" && {list}", outside.display())));
    // Numbers that a listing tells are those of `stat(2)`.
    assert_eq!(place.run("find tree -links +1 -type f -printf '%i\\n' | sort -u | wc -l").trim(), "1");
    place.run("ls -fi tree/plain | sort | sed 's/^ *//' > listed && cd tree/plain && stat -c '%i %n' * | sort > ../../told");
    assert_eq!(place.run("grep -v ' [.]*$' listed | diff - told"), "");
    place.run("find tree/plain -name 'file1*' -delete; find tree -type d -empty -delete; find tree -newermt 2039-01-01 -delete");
    assert_eq!(place.run("find tree -name 'file1*' -o -name sparse -o -name empty"), "");
    place.remount_unchanged();
    assert_eq!(place.run("find tree -name 'file1*' -o -name sparse -o -name empty"), "");
    place.run("find tree -depth -delete && mkdir tree && [ -z \"$(ls -A tree)\" ]");
    place.remount_unchanged();
    assert_eq!(place.run("find tree"), "tree\n");
}
