//! Access control lists, umask and set-group-id directories: the mount says what the disk says, for new files and for
//! those of a slot.

use slotfs_tests::workplace::{Workplace, installed};

const MAKE: &str = r#"
    umask 022
    mkdir inherits plain && setfacl -m d:u:daemon:rwx,d:g:daemon:r inherits
    setfacl -m d:o:--- plain
    for name in listed masked granted denied bare; do echo $name > $name; done
    chmod 600 masked granted && chmod 644 denied bare
    setfacl -m u:daemon:rw listed masked
    setfacl -m u:daemon:r granted
    setfacl -m u:daemon:--- denied
    mkdir group && chgrp 5 group && chmod 2777 group
"#;

const CHANGE_AND_SHOW: &str = r#"
    as_daemon() { setpriv --reuid 1 --regid 1 --clear-groups "$@" 2>&1; }
    umask 022
    touch inherits/file plain/file && mkdir inherits/below plain/below && mkfifo inherits/fifo
    mkdir inherits/below/deeper && (umask 077; touch inherits/below/deeper/file plain/private)
    as_daemon cat listed masked granted denied || true
    as_daemon bash -c 'echo more >> granted' || true
    chmod 640 masked && setfacl -m u:bin:rwx listed && setfacl -b bare && setfacl -x u:daemon granted
    stat -c '%a %n' masked
    setfacl -m m::r masked
    stat -c '%a %n' masked
    setfacl -m u:daemon:rwx inherits && as_daemon touch inherits/daemons || true
    umask 0; as_daemon mkdir group/directory; as_daemon touch group/file
    umask 077; as_daemon touch group/private
    find . | sort | xargs stat -c '%a %u %g %n'
    find . | sort | xargs getfacl --absolute-names
"#;

#[test]
fn permissions_are_those_of_the_disk() {
    if ["setfacl", "setpriv"].into_iter().any(|name| !installed(name))
        || !rustix::process::geteuid().is_root()
    {
        return;
    }
    let Some(mut place) = Workplace::new() else { return };
    // The other user must get there.
    place.run("chmod 755 \"$OUTSIDE/..\"");
    let inside = |place: &Workplace, directory: &str, script: &str| {
        place.run(&format!("mkdir -p \"{directory}\" && cd \"{directory}\"\n{script}"))
    };
    inside(&place, "$OUTSIDE/disk", MAKE);
    let expected = inside(&place, "$OUTSIDE/disk", CHANGE_AND_SHOW);
    inside(&place, "new", MAKE);
    inside(&place, "old", MAKE);
    assert_eq!(inside(&place, "new", CHANGE_AND_SHOW), expected);
    place.settle();
    assert_eq!(inside(&place, "old", CHANGE_AND_SHOW), expected);
    place.remount_unchanged();
    let show = CHANGE_AND_SHOW.split_once("umask 077; as_daemon touch group/private").unwrap().1;
    for directory in ["new", "old"] {
        assert!(expected.ends_with(&inside(&place, directory, show)), "{directory}");
    }
}
