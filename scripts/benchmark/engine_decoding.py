"""Importing libraries from what was never seen, packed or foreign, and the speed of the pass over foreign archives."""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from engine_inputs import COMPRESSORS, Packed
from inputs import IMPORT
from measure import drop_caches, in_turn, put_aside, run
from peers import Peer, Plain, wait_until
from reading import QUIET, import_command
from report import Row
from start import finish, spawn

PLAIN = "plain directory"
LAUNCHERS = ("Rust launcher", "Go launcher")
# Seconds for a pass: bzip2 takes its time on one core.
PASSING = 60.0

DECODERS = {
    "tar.gz": {
        "gzip": ["gzip", "-dc"],
        "libdeflate-gunzip": ["libdeflate-gunzip", "-c"],
        "igzip": ["igzip", "-dc"],
        "rapidgzip": [str(Path(sys.executable).parent / "rapidgzip"), "-q", "-dc", "-P", "{cores}"],
        "pigz": ["pigz", "-dc", "-p", "{cores}"],
    },
    "tar.zst": {"zstd": ["zstd", "-qdc"]},
    "tar.xz": {"xz": ["xz", "-qdc", "-T{cores}"]},
    "tar.bz2": {"bzip2": ["bzip2", "-dc"], "lbzip2": ["lbzip2", "-dc", "-n{cores}"]},
}
"""Of each format, first the decoder that everybody has, then those that claim to be faster."""


def slotfs_peer(packed: Packed, name: str, source: str, *flags: str) -> Peer:
    """slotfs showing one kind of source, with a cache for it alone."""
    program = str(packed.slotfs)
    cache = "{cache}-" + source + "".join(flags)
    command = [program, "mount", "{source}", "{place}", "--cache-dir", cache, *flags]
    return Peer(name, command, source, program, (program, "unmount"))


def import_rows(packed: Packed, repetitions: int) -> list[Row]:
    """The import, from the command that mounts a packed package or unpacks it."""
    packages = {profile: slotfs_peer(packed, f"slotfs, {profile}", profile) for profile in ("compatible", "fast")}
    peers = [
        Plain(),
        *packages.values(),
        Peer("kernel squashfs", ["mount", "-o", "loop,ro", "{source}", "{place}"], "squashfs", "mksquashfs"),
        Peer("kernel erofs", ["mount", "-t", "erofs", "-o", "loop,ro", "{source}", "{place}"], "erofs", "mkfs.erofs"),
        Peer("squashfuse", ["squashfuse", "{source}", "{place}"], "squashfs", "squashfuse"),
    ]
    contenders, absent = mounting(packed, peers)
    extracting = {"compatible": "unpacking tar.gz first", "fast": "unpacking tar.zst first"}
    contenders[extracting["compatible"]] = unpacking(packed, "tar.gz")
    contenders[extracting["fast"]] = unpacking(packed, "tar.zst")
    science = packed.science("compatible")
    contenders[f"{LAUNCHERS[0]} first"] = launching(packed, science)
    row = Row(
        f"`python -c '{IMPORT}'` from a packed package never seen, page cache dropped, from the command that mounts",
        "s",
        {**in_turn(contenders, repetitions), **absent},
        PLAIN,
        "no slower than the plain directory cold, and at least 4 times faster than extracting first",
        "slotfs, fast",
    )
    verdicts = []
    for profile, slower in extracting.items():
        mine, theirs = row.ratio(f"slotfs, {profile}"), row.ratio(slower)
        if mine is None or theirs is None:
            verdicts.append(False)
            continue
        verdicts.append(mine <= 1 and theirs / mine >= 4)
        row.notes.append(f"slotfs, {profile} takes {mine:.2f} of the plain directory's time")
        row.notes.append(f"{slower[0].upper()}{slower[1:]} takes {theirs / mine:.2f} of the time of slotfs, {profile}")
    row.met = all(verdicts)
    row.limit = "the plain directory"
    return [row]


def foreign_rows(packed: Packed, repetitions: int) -> list[Row]:
    """The import from archives that others made."""
    ratarmount = str(Path(sys.executable).parent / "ratarmount")
    result = []
    for kind in COMPRESSORS:
        print(f"measuring foreign: {kind}", file=sys.stderr)
        peers = [
            slotfs_peer(packed, "slotfs", "package" if kind == "tar.gz" else kind),
            # Its index in memory: the archive was never seen.
            Peer("ratarmount", [ratarmount, "--index-file", ":memory:", "{source}", "{place}"], kind, ratarmount),
        ]
        if kind == "tar.gz":
            peers.append(
                Peer("archivemount", ["archivemount", "-o", "readonly", "{source}", "{place}"], kind, "archivemount")
            )
        contenders, absent = mounting(packed, peers)
        against = "unpacking with tar first"
        contenders[against] = unpacking(packed, kind)
        beaten = [against]
        if kind == "tar.gz":
            beaten = list(LAUNCHERS)
            against = beaten[0]
            for name, launcher in zip(beaten, ("rs", "go"), strict=True):
                contenders[name] = launching(packed, packed.inputs.package(launcher))
        what = "FlavorPack's builder made, a tar.gz slot" if kind == "tar.gz" else f"others made, a {kind}"
        row = Row(
            f"`python -c '{IMPORT}'` from what {what}, never seen, page cache dropped",
            "s",
            {**in_turn(contenders, repetitions), **absent},
            against,
            "at least 2 times faster than "
            + ("the package's own launcher" if kind == "tar.gz" else "tar, for launchers cannot run it"),
        )
        mine, theirs = row.value("slotfs"), [row.value(name) for name in beaten]
        if mine is not None:
            # Who gave up took longer than anybody who did not.
            row.met = all(value is None or value / mine >= 2 for value in theirs)
            row.notes += [
                f"{name} takes {value / mine:.2f} of slotfs's time"
                for name, value in zip(beaten, theirs, strict=True)
                if value is not None
            ]
        result.append(row)
    return result


def pass_rows(packed: Packed, repetitions: int) -> list[Row]:
    """The pass over an archive, with all that belongs to it, against decoders that throw away what they decode."""
    result = []
    for kind, decoders in DECODERS.items():
        print(f"measuring pass: {kind}", file=sys.stderr)
        archive = packed.tree.image(kind)
        if archive is None:
            continue
        contenders, absent = {}, {}
        for cores, words in ((1, "one core"), (2, "two cores")):
            contenders[f"slotfs, {words}"] = passing(packed, archive, cores)
            for name, command in decoders.items():
                if not shutil.which(command[0]):
                    absent[name] = f"`{Path(command[0]).name}` is not installed"
                elif cores == 1 or any("{cores}" in part for part in command):
                    command = [part.replace("{cores}", str(cores)) for part in command]
                    contenders[f"{name}, {words}"] = decoding(command, archive, cores)
        in_turn({"reading": lambda archive=archive: run(["cat", archive])}, 1)
        own = f"{next(iter(decoders))}, one core"
        size = packed.tree.image("tar").stat().st_size / 1e6
        row = Row(
            f"The pass over a {kind} of {size:.0f} MB, `slotfs warm`",
            "s",
            {**in_turn(contenders, repetitions), **absent},
            own,
            "at least 0.9 of the decoder's own speed on one core, and faster on two",
            "slotfs, one core",
        )
        judge_pass(row, own)
        result.append(row)
    return result


def judge_pass(row: Row, own: str):
    one, two, tool = row.value("slotfs, one core"), row.value("slotfs, two cores"), row.value(own)
    if one is None or two is None or tool is None:
        row.met = False
        return
    row.met = tool / one >= 0.9 and two < one
    row.notes.append(
        f"slotfs runs at {tool / one:.2f} of the speed of {own}, and {one / two:.2f} times as fast on two cores"
    )
    others = {
        name: row.value(name) for name in row.measured if name.endswith("one core") and not name.startswith("slotfs")
    }
    fastest = min((name for name, value in others.items() if value is not None), key=lambda name: others[name])
    reached = f"slotfs runs at {others[fastest] / one:.2f} of its speed"
    row.limit = f"the fastest decoder on one core, {fastest.split(',')[0]}; {reached}"


def mounting(packed: Packed, peers: list) -> tuple[dict[str, Callable[[], float]], dict[str, str]]:
    """What mounts and imports, each time as if for the first time, and why others are missing."""
    contenders, absent = {}, {}
    for peer in peers:
        reason = peer.missing(packed.tree)
        if reason is None:
            contenders[peer.name] = lambda peer=peer: mount_and_import(packed, peer)
        else:
            absent[peer.name] = reason
    return contenders, absent


def mount_and_import(packed: Packed, peer) -> float:
    with fresh(packed):
        started = time.monotonic()
        with peer.mounted(packed.tree, packed.scratch / "mount") as place:
            run(import_command(place), env=QUIET)
            return time.monotonic() - started


def unpacking(packed: Packed, kind: str) -> Callable[[], float]:
    archive = packed.tree.image(kind)

    def once() -> float:
        with fresh(packed) as folder:
            started = time.monotonic()
            run(["tar", "-C", folder, "-xf", archive])
            run(import_command(folder), env=QUIET)
            return time.monotonic() - started

    return once


def launching(packed: Packed, package: Path) -> Callable[[], float]:
    """The launcher unpacks and runs its program, which does nothing; then comes the import from what it unpacked."""

    def once() -> float:
        with fresh(packed) as folder:
            started = time.monotonic()
            finish(spawn([package], folder), [package])
            # One launcher names it after the file, the other after the package.
            (unpacked,) = (folder / "flavor" / "workenv").glob("[!.]*")
            run(import_command(unpacked), env=QUIET)
            return time.monotonic() - started

    return once


def passing(packed: Packed, archive: Path, cores: int) -> Callable[[], float]:
    def once() -> float:
        with fresh(packed, cold=False) as folder:
            command = [packed.slotfs, "warm", "--unmounted", archive, "--cache-dir", folder / "cache"]
            return run(on(cores, command), PASSING)

    return once


def decoding(command: list, archive: Path, cores: int) -> Callable[[], float]:
    return lambda: run(on(cores, [*command, archive]), PASSING)


def on(cores: int, command: list) -> list[str]:
    """The command on so many cores."""
    return ["taskset", "-c", "0" if cores == 1 else "0,1", *map(str, command)]


@contextlib.contextmanager
def fresh(packed: Packed, cold: bool = True):
    """A directory that was never there, with nothing in memory; put aside when slotfs has let go of it."""
    folder = packed.scratch
    put_aside(folder)
    folder.mkdir()
    if cold:
        drop_caches()
    try:
        yield folder
    finally:
        # A server goes on with the pass after its mount has gone; the next contender is not to pay for that.
        wait_until(lambda: not users(folder), f"something still uses {folder} after 60 s")
        put_aside(folder)


def users(folder: Path) -> set[int]:
    """The processes that have files below a directory open."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if any(str(entry.readlink()).startswith(f"{folder}/") for entry in (process / "fd").iterdir()):
                found.add(int(process.name))
    return found
