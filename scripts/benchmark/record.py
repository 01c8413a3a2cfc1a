"""Writes what was measured where readers look: a short table in the README, everything in docs/measurements.md."""

from pathlib import Path

from report import Row, heading, markdown, shown, verdict

BEGIN, END = "<!-- measured: scripts/bench --record -->", "<!-- end -->"


def record(rows: list[Row], repetitions: int, root: Path, disk: Path):
    """Replaces both texts; a partial run would leave old numbers beside new ones, so callers measure all."""
    where = heading(repetitions, root, disk)
    (root / "docs" / "measurements.md").write_text(
        "# Measurements\n\nWritten by `scripts/bench --record`.\n\n" + markdown(rows, repetitions, root, disk)
    )
    readme = root / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    after = rest.split(END, 1)[1]
    readme.write_text(before + BEGIN + "\n" + where + "\n\n" + summary(rows) + "\n" + END + after)


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
