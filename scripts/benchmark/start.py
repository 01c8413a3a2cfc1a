"""From the command to the program: slotfs, and the package's own launchers, on the same packages."""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from inputs import Inputs
from measure import LIMIT, TooSlowError, drop_caches, in_turn, put_aside
from report import Row, shown


def rows(inputs: Inputs, slotfs: Path, repetitions: int) -> list[Row]:
    """First run (never seen), second run, and what the second run adds to the bare command."""
    cache = inputs.home / "start-cache"
    rust, go = inputs.package("rs"), inputs.package("go")
    runs = {"slotfs": [slotfs, "run", rust], "Rust launcher": [rust], "Go launcher": [go]}

    def forget(name: str) -> Path:
        place = cache / name.replace(" ", "-")
        put_aside(place)
        return place

    def first(name: str) -> Callable[[], float]:
        return lambda: to_first_instruction(runs[name], forget(name))

    def second(name: str, measure) -> Callable[[], float]:
        return lambda: measure(runs[name], cache / name.replace(" ", "-"))

    read_all = lambda: [package.read_bytes() for package in (rust, go)]  # noqa: E731
    read_all()
    warm = in_turn({name: first(name) for name in runs}, repetitions)
    cold = in_turn({name: first(name) for name in runs}, repetitions, before=drop_caches)
    bare = lambda measure: lambda: measure([inputs.stamp], cache)  # noqa: E731
    again = in_turn(
        {"bare command": bare(to_first_instruction), **{name: second(name, to_first_instruction) for name in runs}},
        repetitions * 5,
    )
    whole = in_turn({"bare command": bare(to_exit), **{name: second(name, to_exit) for name in runs}}, repetitions * 5)
    shutil.rmtree(cache, ignore_errors=True)

    size = (inputs.home / "tree.tar").stat().st_size / 1e6
    result = []
    for title, measured in (("package file in memory", warm), ("page cache dropped", cold)):
        row = Row(
            f"Start of a package never seen, {size:.0f} MB in a tar.gz slot, {title}: "
            "command to the program's first instruction",
            "s",
            measured,
            "slotfs",
            "20 times faster than the package's own launcher",
        )
        ratios = [row.ratio(name) for name in ("Rust launcher", "Go launcher")]
        row.met = all(ratio >= 20 for ratio in ratios if ratio is not None) if row.value("slotfs") else None
        row.limit = hashing_limit(rust, row.value("slotfs"))
        result.append(row)
    row = Row(
        "Second start: command to the program's first instruction",
        "s",
        again,
        "bare command",
        "faster than the launcher's second run",
    )
    if row.value("slotfs"):
        row.met = all(
            row.value("slotfs") < row.value(name) for name in ("Rust launcher", "Go launcher") if row.value(name)
        )
    row.limit = "the bare command: the same program started from a plain directory by the same parent"
    result.append(row)
    row = Row(
        "Second start: command to its end, unmount included",
        "s",
        whole,
        "bare command",
        "at most 15 ms more than the bare command",
    )
    if row.value("slotfs"):
        added = row.value("slotfs") - row.value("bare command")
        row.met = added < 0.015
        row.notes.append(f"slotfs adds {shown(added, 's')}")
    result.append(row)
    return result


def spawn(command: list, cache: Path) -> subprocess.Popen:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLAVOR_", "SLOTFS_"))}
    return subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**clean, "XDG_CACHE_HOME": str(cache), "FLAVOR_LOG_LEVEL": "error"},
    )


def to_first_instruction(command: list, cache: Path, limit: float = LIMIT) -> float:
    """Seconds until the started program, which prints the clock, ran."""
    started = time.monotonic()
    return float(finish(spawn(command, cache), command, limit).split()[-1]) - started


def to_exit(command: list, cache: Path) -> float:
    started = time.monotonic()
    finish(spawn(command, cache), command)
    return time.monotonic() - started


def finish(process: subprocess.Popen, command: list, limit: float = LIMIT) -> bytes:
    try:
        out, said = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise TooSlowError(f"over {limit:.0f} s") from error
    if process.returncode:
        raise RuntimeError(
            f"exit code {process.returncode} from `{command[0]}`: {said.decode(errors='replace').strip()[-300:]}"
        )
    return out


def hashing_limit(package: Path, reached: float | None) -> str:
    """A package never seen must be read and hashed once before anything of it may run."""
    data = package.read_bytes()
    started = time.monotonic()
    hashlib.sha256(data).digest()
    seconds = time.monotonic() - started
    text = f"hashing the stored {len(data) / 1e6:.0f} MB takes one core {shown(seconds, 's')}"
    return text + (f"; slotfs takes {reached / seconds:.2f} of that" if reached else "")
