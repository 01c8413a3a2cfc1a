"""Using a mounted tree: importing libraries, and walking it."""

import contextlib
import os
import sys
import time
from pathlib import Path

from inputs import FILES, IMPORT, Inputs
from measure import drop_caches, in_turn, just_before, run
from peers import Plain, all_peers, on_one_processor, slotfs_with
from report import Row

PLAIN = "plain directory"
QUIET = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}


@contextlib.contextmanager
def everyone(inputs: Inputs, peers: list):
    """All peers mounted at once; yields places by name, and why the others are missing."""
    places, absent = {}, {}
    with contextlib.ExitStack() as stack:
        for peer in peers:
            reason = peer.missing(inputs)
            if reason is None:
                try:
                    places[peer.name] = stack.enter_context(
                        peer.mounted(inputs, inputs.home / "mounts" / peer.name.replace(" ", "-"))
                    )
                except RuntimeError as error:
                    reason = str(error)
            if reason is not None:
                absent[peer.name] = reason
        yield places, absent


def import_command(place: Path) -> list:
    return [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(place)!r}); {IMPORT}"]


def walk_command(place: Path, sizes: bool) -> list:
    return ["find", place, *(["-printf", "%s\n"] if sizes else [])]


def judged(row: Row, factor: float) -> Row:
    ratio = row.ratio("slotfs")
    if ratio is not None:
        row.met = ratio <= factor
        row.limit = f"the plain directory; slotfs takes {ratio:.2f} of its time"
    return row


def warm(title: str, must: str, factor: float, inputs: Inputs, peers: list, repetitions: int, command) -> Row:
    """One command over every tree, against the plain directory, everything mounted and read once before."""
    with everyone(inputs, peers) as (places, absent):
        before = {peer.name: peer.before for peer in peers}
        contenders = {
            name: (lambda name=name, place=place: run([*before[name], *command(place)], env=QUIET))
            for name, place in places.items()
        }
        in_turn(contenders, 1)  # the first walk fills the caches and is not counted
        measured = in_turn(just_before(contenders), repetitions)
    return judged(Row(title, "s", {**measured, **absent}, PLAIN, must), factor)


def cold(title: str, must: str, factor: float, inputs: Inputs, peers: list, repetitions: int, command) -> Row:
    """From the command that mounts to the end of one that uses the tree, with empty caches."""
    contenders, absent = {}, {}
    for peer in peers:
        reason = peer.missing(inputs)
        if reason is None:
            contenders[peer.name] = lambda peer=peer: mount_and_use(peer, inputs, command)
        else:
            absent[peer.name] = reason
    in_turn(contenders, 1)  # what somebody keeps of an earlier use is there for all
    measured = in_turn(contenders, repetitions, before=drop_caches)
    return judged(Row(title, "s", {**measured, **absent}, PLAIN, must), factor)


def mount_and_use(peer, inputs: Inputs, command) -> float:
    started = time.monotonic()
    with peer.mounted(inputs, inputs.home / "mounts" / peer.name.replace(" ", "-")) as place:
        run([*peer.before, *command(place)], env=QUIET)
        return time.monotonic() - started


def import_rows(inputs: Inputs, slotfs: Path, repetitions: int) -> list[Row]:
    what = f"`python -c '{IMPORT}'`"
    read_only = slotfs_with(slotfs, "slotfs, read-only", "--ro")
    alone = [on_one_processor(peer) for peer in (Plain(), *writable_and_not(slotfs))]
    unprepared = slotfs_with(slotfs, "slotfs, nothing known of earlier launches", "--no-prefetch")
    return [
        apart(
            warm(
                f"{what}, warm",
                "within 1.05 of the plain directory",
                1.05,
                inputs,
                [*all_peers(slotfs), read_only, *alone],
                repetitions,
                import_command,
            )
        ),
        cold(
            f"{what}, page cache dropped, from the command that mounts",
            "no slower than the plain directory cold",
            1.0,
            inputs,
            [*all_peers(slotfs), read_only, unprepared],
            repetitions,
            import_command,
        ),
    ]


def writable_and_not(slotfs: Path) -> list:
    """Both ways of mounting, each with a cache of its own."""
    return [slotfs_with(slotfs, "slotfs", "--rw"), slotfs_with(slotfs, "slotfs, read-only", "--ro", "--no-prefetch")]


def apart(row: Row) -> Row:
    """Says how much of the rest is the waking of another processor, which no server can do anything about."""
    plain = row.value(f"{PLAIN}, on one processor")
    for name in ("slotfs", "slotfs, read-only"):
        value = row.value(f"{name}, on one processor")
        if plain and value:
            row.notes.append(
                f"Where the program and its server share one processor, {name} takes {value / plain:.2f} of what the "
                "plain directory takes there: the rest is the time in which a sleeping processor is woken, twice for "
                "each request"
            )
    return row


def find_rows(inputs: Inputs, slotfs: Path, repetitions: int) -> list[Row]:
    result = []
    for name, sizes in (("`find`", False), ("`find -printf %s`, which asks for every file's attributes,", True)):
        result.append(
            warm(
                f"{name} over {FILES} files, warm, second walk",
                "within 1.3 of the plain directory",
                1.3,
                inputs,
                all_peers(slotfs),
                repetitions * 2,
                lambda place, sizes=sizes: walk_command(place, sizes),
            )
        )
    return result
