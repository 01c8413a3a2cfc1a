"""Using a mounted tree: importing libraries, and walking it."""

import contextlib
import os
import sys
from pathlib import Path

from inputs import FILES, IMPORT, Inputs
from measure import drop_caches, in_turn, run
from peers import all_peers
from report import Row

PLAIN = "plain directory"
QUIET = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}


@contextlib.contextmanager
def everyone(inputs: Inputs, slotfs: Path):
    """All peers mounted at once; yields places by name, and why the others are missing."""
    places, absent = {}, {}
    with contextlib.ExitStack() as stack:
        for peer in all_peers(slotfs):
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


def compare(
    title: str, must: str, factor: float, inputs: Inputs, slotfs: Path, repetitions: int, command, cold: bool
) -> Row:
    """One command over every tree, against the plain directory."""
    with everyone(inputs, slotfs) as (places, absent):
        contenders = {name: (lambda place=place: run(command(place), env=QUIET)) for name, place in places.items()}
        if not cold:
            in_turn(contenders, 1)  # the first walk fills the caches and is not counted
        measured = in_turn(contenders, repetitions, before=drop_caches if cold else lambda: None)
    row = Row(title, "s", {**measured, **absent}, PLAIN, must)
    ratio = row.ratio("slotfs")
    if ratio is not None:
        row.met = ratio <= factor
        row.limit = f"the plain directory; slotfs takes {ratio:.2f} of its time"
    return row


def import_rows(inputs: Inputs, slotfs: Path, repetitions: int) -> list[Row]:
    what = f"`python -c '{IMPORT}'`"
    return [
        compare(
            f"{what}, warm",
            "within 1.05 of the plain directory",
            1.05,
            inputs,
            slotfs,
            repetitions,
            import_command,
            False,
        ),
        compare(
            f"{what}, page cache dropped",
            "no slower than the plain directory cold",
            1.0,
            inputs,
            slotfs,
            repetitions,
            import_command,
            True,
        ),
    ]


def find_rows(inputs: Inputs, slotfs: Path, repetitions: int) -> list[Row]:
    result = []
    for name, sizes in (("`find`", False), ("`find -printf %s`, which asks for every file's attributes,", True)):
        result.append(
            compare(
                f"{name} over {FILES} files, warm, second walk",
                "within 1.3 of the plain directory",
                1.3,
                inputs,
                slotfs,
                repetitions * 2,
                lambda place, sizes=sizes: walk_command(place, sizes),
                False,
            )
        )
    return result
