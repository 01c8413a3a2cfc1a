"""The packages that FlavorPack's native builders make, each named after what is special in it."""

LIFECYCLES = (
    "init",
    "startup",
    "runtime",
    "shutdown",
    "cache",
    "temporary",
    "lazy",
    "eager",
    "dev",
    "config",
    "platform",
    "attestation",
    "volatile",
    "cached",
    "persistent",
    "init-only",
    "temp",
    "unheard-of",
)
PURPOSES = ("data", "code", "config", "media", "payload", "runtime", "tool", "library", "asset")
PERMISSIONS = ("0755", "755", "0644", "0600", "0444", "04755", "7", "abc")


def slot(identifier: str, source: str, target: str, operations: str = "raw", **more) -> dict:
    return {"id": identifier, "source": source, "target": target, "operations": operations, **more}


SHOW = slot("show", "show.sh", "bin/show.sh", purpose="code", lifecycle="runtime", permissions="0755")
GIVEN = slot("given", "given.sh", "bin/given.sh", purpose="code", lifecycle="runtime", permissions="0755")


def manifest(slots, command="{workenv}/bin/show.sh", name="pkg", version="1.0.0", execution=None, **sections) -> dict:
    return {
        "package": {"name": name, "version": version, "description": "test package"},
        "execution": {"command": command, **(execution or {})},
        "slots": slots,
        **sections,
    }


def add_chains(add):
    def one(source, operations):
        return manifest([SHOW, slot("data", source, "data/content", operations, permissions="0644")])

    # The native builders store a source as it is: it must already be in the form that the chain names.
    for name, source, operations in (
        ("raw", "plain.txt", "raw"),
        ("none", "plain.txt", "none"),
        ("blank", "plain.txt", ""),
        ("gzip", "plain.gz", "gzip"),
        ("gzip-members", "members.gz", "gzip"),
        ("gzip-zeros", "zeros.gz", "gzip"),
        ("tar", "tree.tar", "tar"),
        ("tgz", "tree.tar.gz", "tgz"),
    ):
        real = ("rs-rs", "go-go") if name == "tgz" else ()
        add("chain", name, one(source, operations), "rs-stub", "go-stub", *real)
    add("chain", "tar-dot-gz", one("tree.tar.gz", "tar.gz"), "go-stub")
    add("chain", "tar-comma-gzip", one("tree.tar.gz", "tar,gzip"), "rs-stub")
    add("chain", "gzip-gzip", one("plain.gz.gz", "gzip,gzip"), "rs-stub")
    # Says that an archive was made of compressed bytes, which is not what is stored.
    add("chain", "gzip-tar", one("tree.tar.gz", "gzip,tar"), "rs-stub", hostile=True, runs=False)


def add_slot_fields(add):
    for name in LIFECYCLES:
        slots = [
            SHOW,
            slot("data", "plain.txt", "data.txt", lifecycle=name),
            slot("tree", "links.tar.gz" if name == "lazy" else "second.tar.gz", "app", "tgz", lifecycle=name),
        ]
        add("lifecycle", name, manifest(slots), "rs-stub", "go-stub")
    every = [SHOW, *[slot(f"s-{name}", "plain.txt", f"f-{name}", lifecycle=name) for name in LIFECYCLES]]
    listing = [{"type": "execute", "command": "/bin/sh -c 'ls {workenv} > {workenv}/seen-by-setup'"}]
    add("lifecycle", "all", manifest(every, setup_commands=listing), "rs-stub", "go-stub", "rs-rs")
    add(
        "field",
        "purposes",
        manifest([SHOW, *[slot(f"p-{p}", "one", f"p/{p}", purpose=p) for p in PURPOSES]]),
        "rs-stub",
    )
    modes = [slot(f"m{i}", "one", f"perm/{i:02}", permissions=text) for i, text in enumerate(PERMISSIONS)]
    add("field", "permissions", manifest([SHOW, *modes, slot("absent", "one", "perm/absent")]), "rs-stub", "go-stub")
    add(
        "field",
        "targets",
        manifest(
            [
                SHOW,
                slot("a", "one", "{workenv}/t/a"),
                slot("b", "one", "./t/b"),
                slot("c", "one", "t//c"),
                slot("d", "one", "t/e/"),
                slot("f", "second.tar", "{workenv}", "tar"),
            ]
        ),
        "rs-stub",
        "go-stub",
    )
    add(
        "field",
        "overlapping",
        manifest(
            [
                SHOW,
                slot("a", "one", "d/a"),
                slot("b", "plain.gz", "d/b", "gzip"),
                slot("c", "config.ini", "d/e/c"),
                slot("t", "tree.tar.gz", "d", "tgz"),
                slot("u", "second.tar.gz", "d", "tgz"),
                slot("z", "config.ini", "app/data/f001.txt"),
            ]
        ),
        "rs-stub",
        "go-stub",
    )
    add(
        "field", "escaping-target", manifest([SHOW, slot("a", "one", "../escape")]), "rs-stub", hostile=True, runs=False
    )
    add(
        "field", "absolute-target", manifest([SHOW, slot("a", "one", "/abs/file")]), "rs-stub", hostile=True, runs=False
    )


def add_edges(add):
    add("edge", "no-slots", manifest([], "/bin/true"), "rs-stub", "go-stub")
    add("edge", "empty-file", manifest([SHOW, slot("e", "empty", "e")]), "rs-stub", "go-stub")
    add("edge", "empty-gzip", manifest([SHOW, slot("e", "empty.gz", "e", "gzip")]), "rs-stub")
    # No data, but a reference to the launcher.
    add(
        "edge",
        "self-reference",
        manifest([SHOW, slot("self", "$SELF", "bin/self")]),
        "rs-stub",
        hostile=True,
        runs=False,
    )
    add("edge", "random", manifest([SHOW, slot("r", "random.bin", "r.bin")]), "rs-stub")
    add("edge", "archive-kept", manifest([SHOW, slot("t", "second.tar", "kept.tar")]), "rs-stub", "go-stub")
    add("edge", "same-ids", manifest([SHOW, slot("d", "one", "d1"), slot("d", "one", "d2")]), "rs-stub")
    add(
        "edge",
        "60-slots",
        manifest([SHOW, *[slot(f"n{i:02}", "one", f"n/{i:02}") for i in range(59)]]),
        "rs-stub",
        "go-stub",
    )
    for name in ("empty", "modes", "names-pax", "names-gnu", "dotslash", "links", "twice"):
        add("tar", name, manifest([SHOW, slot("t", f"{name}.tar", ".", "tar")]), "rs-stub", "go-stub")
    add("tar", "escape", manifest([SHOW, slot("t", "escape.tar", ".", "tar")]), "rs-stub", hostile=True)
    # One file name, two packages: the second must not destroy the first one's environment.
    for version in ("1.0.0", "2.0.0"):
        same = manifest(
            [SHOW, slot("v", "one" if version == "1.0.0" else "config.ini", "v")], name="same", version=version
        )
        add("same", version, same, "rs-stub", "rs-rs")


def add_launches(add):
    """What a program is given; with the real launchers, so that a test can compare."""
    both = ("rs-rs", "go-go")
    wheels = [
        slot("setup", "setup.sh", "bin/setup.sh", permissions="0755"),
        slot("w1", "one", "wh/b.whl", lifecycle="init"),
        slot("w2", "one", "wh/a.whl"),
    ]
    kinds = manifest(
        [SHOW, *wheels],
        name="setupapp",
        version="2.1",
        setup_commands=[
            {"type": "execute", "command": "{workenv}/bin/setup.sh {workenv}/log 'one arg' {package_name} {version}"},
            {
                "type": "enumerate_and_execute",
                "command": "{workenv}/bin/setup.sh {workenv}/log",
                "enumerate": {"path": "{workenv}/wh", "pattern": "*.whl"},
            },
            {"type": "chmod", "path": "{workenv}/wh/*", "mode": "640"},
            {"type": "write_file", "path": "{workenv}/metadata/installed", "content": "{package_name}-{version}"},
        ],
        cache_validation={"check_file": "{workenv}/metadata/installed", "expected_content": "{package_name}-{version}"},
    )
    add("setup", "kinds", kinds, *both)
    add(
        "setup",
        "fails",
        manifest([SHOW, *wheels], setup_commands=[{"type": "execute", "command": "/bin/false"}]),
        "rs-stub",
        runs=False,
    )
    add(
        "setup",
        "never-valid",
        manifest(
            [SHOW, *wheels],
            setup_commands=[{"type": "execute", "command": "/bin/true"}],
            cache_validation={"check_file": "{workenv}/nope", "expected_content": "x"},
        ),
        "rs-stub",
    )
    directories = [
        {"path": "{workenv}/tmp", "mode": "0700"},
        {"path": "{workenv}/var/log", "mode": "0755"},
        {"path": "{workenv}/home"},
    ]
    rules = {
        "unset": ["SECRET_*", "FOO"],
        "pass": ["SECRET_OK"],
        "map": {"OLD": "NEW"},
        "set": {"SET": "{workenv}/lit"},
    }
    add(
        "env",
        "full",
        manifest(
            [GIVEN],
            "{workenv}/bin/given.sh 'fixed one' two",
            execution={"env": {"X": "{workenv}/x", "Y": "plain"}},
            workenv={
                "directories": directories,
                "env": {"HOME": "{workenv}/home", "TMPDIR": "{workenv}/tmp", "W": "{package_name}-{version}"},
            },
            runtime={"env": rules},
        ),
        *both,
    )
    add(
        "env",
        "unset-all",
        manifest(
            [GIVEN],
            "{workenv}/bin/given.sh",
            runtime={"env": {"unset": ["*"], "pass": ["PATH", "HOME", "LC_*"], "set": {"ONLY": "this"}}},
        ),
        *both,
    )
    add(
        "command",
        "placeholders",
        manifest(
            [GIVEN, slot("t", "second.tar.gz", "app", "tgz")],
            "{workenv}/bin/given.sh {workenv} {package_name} {version} {slot:0} {slot:1} {slot:9} 'a b' \"c d\"",
        ),
        *both,
    )
    add("command", "on-path", manifest([GIVEN], "given.sh"), "rs-rs")
