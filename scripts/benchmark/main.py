"""Measures what slotfs promises about speed and memory, beside everything else that can do the job.

Run by `scripts/bench` with the Python in which FlavorPack is installed.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import memory
import opening
import overlay
import reading
import report
import start
from inputs import Inputs
from record import record, record_page

NAMES = ("start", "import", "find", "memory", "index")
# Takes as long as all the others, and has a page of its own.
OVERLAY = "overlay"


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"what to measure, of: {' '.join(NAMES)} (default: all of these), or {OVERLAY}",
    )
    parser.add_argument("--repetitions", type=int, default=5, help="runs per contender (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every single value there")
    parser.add_argument(
        "--record",
        action="store_true",
        help="write the result into README.md and docs/measurements.md; that of overlay into its own page",
    )
    parser.add_argument("--target", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {*NAMES, OVERLAY}
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}; there are {', '.join([*NAMES, OVERLAY])}")
    if arguments.record and arguments.names not in ([], [OVERLAY]):
        parser.error(f"--record writes a whole page: give no names, or only {OVERLAY}")
    if os.geteuid() != 0:
        sys.exit("bench: dropping the page cache and mounting images needs root")

    slotfs = arguments.target / "release" / "slotfs"
    inputs = Inputs(arguments.target / "bench")
    measurements = {
        "start": lambda: start.rows(inputs, slotfs, arguments.repetitions),
        "import": lambda: reading.import_rows(inputs, slotfs, arguments.repetitions),
        "find": lambda: reading.find_rows(inputs, slotfs, arguments.repetitions),
        "memory": lambda: memory.rows(inputs, slotfs, arguments.repetitions),
        "index": lambda: opening.rows(arguments.root, arguments.repetitions),
        OVERLAY: lambda: overlay.rows(inputs, slotfs, arguments.root, arguments.repetitions),
    }
    rows, failed = [], False
    for name in arguments.names or NAMES:
        print(f"measuring {name}", file=sys.stderr)
        try:
            rows += measurements[name]()
        except (OSError, RuntimeError) as error:
            print(f"bench: {name}: {error}", file=sys.stderr)
            failed = True
    print(report.markdown(rows, arguments.repetitions, arguments.root, inputs.home))
    if arguments.json:
        arguments.json.write_text(
            json.dumps(report.as_json(rows, arguments.repetitions, arguments.root, inputs.home), indent=1) + "\n"
        )
    if arguments.record and not failed:
        keep = record_page if arguments.names else record
        keep(rows, arguments.repetitions, arguments.root, inputs.home)
    missed = [row.title for row in rows if row.met is False]
    if missed:
        print("goals not met: " + "; ".join(missed), file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
