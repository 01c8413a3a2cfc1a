"""Opening a slot index: the same work for a thousand files as for a million."""

import json
import statistics
import subprocess
from pathlib import Path

from report import Row, shown


def rows(root: Path, repetitions: int) -> list[Row]:
    """Runs the benchmark program of the tests crate, which prints one JSON object per index size."""
    done = subprocess.run(
        [
            "cargo",
            "bench",
            "--locked",
            "--quiet",
            "--package",
            "slotfs-tests",
            "--bench",
            "index",
            "--",
            "--repetitions",
            str(repetitions * 20),
        ],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise RuntimeError("the index benchmark failed; see above")
    sizes = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    small, large = (f"{size['files']:,} files" for size in (sizes[0], sizes[-1]))
    limit = (
        f"opening and mapping a file of {sizes[-1]['bytes'] / 1e6:.0f} MB and touching its first page "
        f"takes {shown(statistics.median(sizes[-1]['map_seconds']), 's')}"
    )
    result = []
    for title, key, must in (
        ("Opening a slot index", "open_seconds", "within 1.5 of each other, both under 5 ms"),
        ("Opening a slot index and finding one file", "find_seconds", "both under 5 ms"),
    ):
        measured = {f"{size['files']:,} files": size[key] for size in sizes}
        row = Row(title, "s", measured, small, must, subject=large, limit=limit)
        row.met = max(row.value(small), row.value(large)) < 0.005 and (key == "find_seconds" or row.ratio(large) <= 1.5)
        result.append(row)
    return result
