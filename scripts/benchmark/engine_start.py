"""From the command to the program's first instruction, for packages of three sizes that were never seen."""

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from engine_inputs import PROFILES, SIZES, Packed
from measure import drop_caches, in_turn
from report import Row, shown
from start import to_first_instruction

BARE, LAUNCHER = "bare command", "Rust launcher"
# Seconds over the bare command, and how far the sizes may be from each other.
MOST, SAME = 0.015, 0.003
# The launcher unpacks 3 GB before the program starts.
UNPACKING = 60.0


def rows(packed: Packed, repetitions: int) -> list[Row]:
    """The largest packages are removed afterwards, and what they are made of as soon as they are made."""
    try:
        for size, profile in itertools.product(SIZES, PROFILES):
            packed.filled(size, profile)
        for size in SIZES:
            packed.forget_filling(size)
        return measure(packed, repetitions)
    finally:
        shutil.rmtree(packed.scratch, ignore_errors=True)
        for profile in PROFILES:
            packed.filled(list(SIZES)[-1], profile).unlink(missing_ok=True)


def measure(packed: Packed, repetitions: int) -> list[Row]:
    quick: dict[str, Callable[[], float]] = {}
    for size, profile in itertools.product(SIZES, PROFILES):
        package = packed.filled(size, profile)
        read(package)
        quick[named(profile, size)] = never_seen(packed, [packed.slotfs, "run", package])
    bare = {BARE: lambda: to_first_instruction([packed.inputs.stamp], packed.scratch)}
    slow = {f"{LAUNCHER}, {size}": never_seen(packed, [packed.filled(size, "compatible")], UNPACKING) for size in SIZES}
    # The packages were written a moment ago, and a disk that still is at it makes everybody wait who writes.
    os.sync()
    # Files that the launchers write push others out of memory, so they come last.
    warm = in_turn({**bare, **quick}, repetitions * 5)
    cold = in_turn({**bare, **quick}, repetitions, before=drop_caches)
    unpacked = in_turn(slow, repetitions)

    title = "Start of a packed package never seen, {}: command to the program's first instruction"
    must = "under 15 ms over the bare command, the same at all sizes"
    subject = named("fast", list(SIZES)[-1])
    first = Row(title.format("in memory"), "s", {**warm, **unpacked}, BARE, must, subject)
    judge(first)
    first.limit = "the bare command: the same program started from a plain directory by the same parent"
    first.curves = curves(packed, first)
    second = Row(title.format("page cache dropped"), "s", cold, BARE, "for comparison", subject, short=False)
    judge(second)
    second.met = None
    return [first, second]


def named(profile: str, size: str) -> str:
    return f"slotfs, {profile}, {size}"


def read(path: Path):
    """Brings a file into the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def never_seen(packed: Packed, command: list, *limit: float) -> Callable[[], float]:
    """Each time with a cache directory that is not there yet."""

    def once() -> float:
        cache = packed.scratch / "start"
        shutil.rmtree(cache, ignore_errors=True)
        try:
            return to_first_instruction(command, cache, *limit)
        finally:
            # A few files: moving them away instead would make the next one's sync wait for that.
            shutil.rmtree(cache, ignore_errors=True)

    return once


def judge(row: Row):
    """Says how much each start adds, and whether sizes make a difference."""
    bare = row.value(BARE)
    if bare is None:
        return
    verdicts = []
    for profile in PROFILES:
        added = [row.value(named(profile, size)) for size in SIZES]
        if None in added:
            verdicts.append(False)
            continue
        added = [value - bare for value in added]
        each = ", ".join(f"{shown(value, 's')} at {size}" for value, size in zip(added, SIZES, strict=True))
        row.notes.append(f"slotfs, {profile} adds {each}")
        verdicts.append(max(added) < MOST and max(added) - min(added) < SAME)
    row.met = all(verdicts)


def curves(packed: Packed, row: Row) -> dict[str, list[tuple[float, float]]]:
    """What the plot shows: by contender, bytes of the package and seconds."""
    result = {"plain exec": [(float(bytes_), row.value(BARE)) for bytes_ in SIZES.values()]} if row.value(BARE) else {}
    for label, name, profile in (
        *((f"slotfs, {profile}", f"slotfs, {profile}", profile) for profile in PROFILES),
        ("package's own launcher", LAUNCHER, "compatible"),
    ):
        points = [
            (float(packed.filled(size, profile).stat().st_size), value)
            for size in SIZES
            if (value := row.value(f"{name}, {size}")) is not None
        ]
        if points:
            result[label] = points
    return result
