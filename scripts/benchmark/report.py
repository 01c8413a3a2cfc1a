"""What was measured, as a table for people and as JSON."""

import datetime
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from measure import median

COLUMNS = {"s": "median", "MiB": "resident", "MB": "size"}
"""What a column of values is called, by their unit: times, memory, sizes on the disk."""


@dataclass
class Row:
    """One line of the goals: who took how long, and what slotfs has to reach."""

    title: str
    unit: str
    measured: dict[str, list[float] | str]
    """Each contender's values, or why it has none."""
    against: str
    """The contender that all are compared with."""
    must: str
    subject: str = "slotfs"
    """The contender that the goal is about."""
    met: bool | None = None
    limit: str = ""
    """What no implementation could beat, measured in the same run, and how far slotfs is from it."""
    notes: list[str] = field(default_factory=list)
    short: bool = True
    """Whether the README shows it, too."""
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """What the plot shows: by name, bytes of a package and seconds."""

    def value(self, name: str) -> float | None:
        return median(self.measured.get(name, []))

    def ratio(self, name: str) -> float | None:
        mine, base = self.value(name), self.value(self.against)
        return mine / base if mine is not None and base else None


def shown(value: float, unit: str) -> str:
    if unit == "MiB":
        return f"{value / (1 << 20):.1f} MiB"
    if unit == "MB":
        return f"{value / 1e6:.1f} MB"
    if value < 1e-3:
        return f"{value * 1e6:.1f} µs"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def heading(repetitions: int, root: Path, disk: Path) -> str:
    return (
        f"Measured {datetime.date.today().isoformat()} on {machine(disk)}; commit {commit(root)}; "
        f"medians of {repetitions} runs, taken in turn."
    )


def markdown(rows: list[Row], repetitions: int, root: Path, disk: Path) -> str:
    return f"{heading(repetitions, root, disk)}\n\n{tables(rows)}"


def tables(rows: Iterable[Row]) -> str:
    lines = []
    for row in rows:
        lines += [
            f"**{row.title}.** Goal: {row.must}{verdict(row)}.",
            "",
            f"| | {COLUMNS[row.unit]} | against {row.against} |",
            "|---|---:|---:|",
        ]
        for name in row.measured:
            value, ratio = row.value(name), row.ratio(name)
            if value is None:
                lines.append(f"| {name} | {row.measured[name] or 'not measured'} | |")
            else:
                lines.append(f"| {name} | {shown(value, row.unit)} | {f'{ratio:.2f}' if ratio is not None else ''} |")
        lines += [
            "",
            *([f"Physical limit: {row.limit}.", ""] if row.limit else []),
            *[f"{note}." for note in row.notes],
        ]
        if row.notes:
            lines.append("")
    return "\n".join(lines)


def verdict(row: Row) -> str:
    return "" if row.met is None else " (met)" if row.met else " (**not met**)"


def from_json(row: dict) -> Row:
    """A row of :func:`as_json` again."""
    return Row(**row)


def as_json(rows: list[Row], repetitions: int, root: Path, disk: Path) -> dict:
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(disk),
        "commit": commit(root),
        "repetitions": repetitions,
        "rows": [asdict(row) for row in rows],
    }


def machine(disk: Path) -> str:
    processor = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    kind = subprocess.run(["findmnt", "-no", "FSTYPE", "-T", disk], capture_output=True, text=True).stdout.strip()
    system = f"{kind}, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"
    return f"{os.cpu_count()} cores ({processor}), {memory:.0f} GiB, {system}"


def commit(root: Path) -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", root, *words], capture_output=True, text=True).stdout.strip()

    # What is measured is being written there.
    code = (".", ":!README.md", ":!docs")
    changes = git("status", "--porcelain", "--untracked-files=no", "--", *code)
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changes else "")
