"""Opening a slot index: the same work for a thousand files as for a million."""

import json
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
    small, large = f"{sizes[0]['files']:,} files", f"{sizes[-1]['files']:,} files"
    row = Row(
        "Opening a slot index and looking up one path",
        "s",
        {f"{size['files']:,} files": size["seconds"] for size in sizes},
        small,
        "within 1.5 of each other, both under 5 ms",
        subject=large,
    )
    row.met = row.ratio(large) <= 1.5 and row.value(large) < 0.005 and row.value(small) < 0.005
    mapped = sizes[-1]["map_seconds"]
    row.limit = (
        f"opening and mapping a file of that size ({sizes[-1]['bytes'] / 1e6:.0f} MB) and touching its first page "
        f"takes {shown(sorted(mapped)[len(mapped) // 2], 's')}"
    )
    return [row]
