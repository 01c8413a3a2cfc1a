"""Writes what was measured where readers look: short tables in the README, everything in pages below docs/."""

import itertools
import json
from dataclasses import asdict
from pathlib import Path

from plot import plot
from report import Row, from_json, heading, markdown, shown, tables, verdict

BEGIN, END = "<!-- measured: scripts/bench --record -->", "<!-- end -->"
BEGIN_ENGINE = "<!-- measured: scripts/bench engine --record -->"
PLOT = "docs/start-by-size.svg"


def record(rows: list[Row], repetitions: int, root: Path, disk: Path):
    """Replaces both texts; a partial run would leave old numbers beside new ones, so callers measure all."""
    where = heading(repetitions, root, disk)
    (root / "docs" / "measurements.md").write_text(
        "# Measurements\n\nWritten by `scripts/bench --record`.\n\n" + markdown(rows, repetitions, root, disk)
    )
    between(root / "README.md", BEGIN, where + "\n\n" + summary(rows))


def record_engine(measured: dict[str, list[Row]], order: tuple[str, ...], repetitions: int, root: Path, disk: Path):
    """Writes the page about the engine, its table in the README, and the plot that both show.

    Parts that were not measured now, or not yet, stay as they are, and it is said when that was: what is measured takes
    half an hour, and a change concerns a part of it.
    """
    path = root / "docs" / "measurements-engine.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    said = heading(repetitions, root, disk)
    known |= {part: {"measured": said, "rows": [asdict(row) for row in rows]} for part, rows in measured.items()}
    known = {part: known[part] for part in order if part in known}
    path.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    parts = {part: [from_json(row) for row in kept["rows"]] for part, kept in known.items()}
    curves = next((row.curves for rows in parts.values() for row in rows if row.curves), None)
    if curves is None:
        return
    (root / PLOT).write_text(
        plot(
            "From the command to the program's first instruction",
            curves,
            ("size of the package", {1e7: "10 MB", 1e8: "100 MB", 1e9: "1 GB", 3e9: "3 GB"}),
            ("time", {0.001: "1 ms", 0.01: "10 ms", 0.1: "100 ms", 1: "1 s", 10: "10 s"}),
        )
    )
    words = "Time to the first instruction against the size of the package"
    (root / "docs" / "measurements-engine.md").write_text(
        "# Measurements of the engine\n\nWritten by `scripts/bench engine --record`.\n\n"
        f"![{words}]({Path(PLOT).name})\n\n{when(known)}\n\n" + tables(itertools.chain.from_iterable(parts.values()))
    )
    table = summary([row for rows in parts.values() for row in rows if row.short])
    between(root / "README.md", BEGIN_ENGINE, f"{when(known)}\n\n![{words}]({PLOT})\n\n{table}")


def when(known: dict[str, dict]) -> str:
    """Says of each part when it was measured, and on what."""
    groups: dict[str, list[str]] = {}
    for part, kept in known.items():
        groups.setdefault(kept["measured"], []).append(part)
    if len(groups) == 1:
        return next(iter(groups))
    return "\n".join(f"* {', '.join(parts)}: {said}" for said, parts in groups.items())


def between(page: Path, begin: str, text: str):
    """Puts a text into a page, from a mark to the end of what is measured."""
    before, rest = page.read_text().split(begin)
    after = rest.split(END, 1)[1]
    page.write_text(before + begin + "\n" + text + "\n" + END + after)


def record_page(rows: list[Row], repetitions: int, root: Path, disk: Path):
    """Writes the page about writing."""
    (root / "docs" / "measurements-overlay.md").write_text(
        "# Measurements of writing over read-only files\n\nWritten by `scripts/bench overlay --record`.\n\n"
        + markdown(rows, repetitions, root, disk)
    )


def summary(rows: list[Row]) -> str:
    lines = ["| what | goal | slotfs | beside |", "|---|---|---:|---|"]
    for row in rows:
        subject = row.subject or next(iter(row.measured))
        value = row.value(subject)
        mine = shown(value, row.unit) if value is not None else "not measured"
        others = ", ".join(
            f"{name} {shown(row.value(name), row.unit)}"
            for name in row.measured
            if name != subject and row.value(name) is not None
        )
        lines.append(f"| {row.title} | {row.must}{verdict(row)} | {mine} | {others} |")
    return "\n".join(lines)
