"""Measures what slotfs promises about speed and memory, beside everything else that can do the job.

Run by `scripts/bench` with the Python in which FlavorPack is installed.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import engine
import memory
import opening
import overlay
import reading
import report
import start
from inputs import Inputs
from record import record, record_engine, record_page

NAMES = ("start", "import", "find", "memory", "index")
# These take as long as all the others, and have pages of their own.
OVERLAY = "overlay"
ENGINE = "engine"
PAGES = (OVERLAY, ENGINE)


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"what to measure, of: {' '.join(NAMES)} (default: all of these), or one of: {' '.join(PAGES)}",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="PART",
        choices=engine.PARTS,
        help=f"with {ENGINE}: only this part; may be given several times: {' '.join(engine.PARTS)}",
    )
    parser.add_argument("--slotfs", type=Path, metavar="FILE", help="measure this binary instead of building one")
    parser.add_argument("--repetitions", type=int, default=5, help="runs per contender (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every single value there")
    parser.add_argument(
        "--record",
        action="store_true",
        help="write the result into README.md and docs/measurements.md; "
        f"that of {' and '.join(PAGES)} into pages of their own",
    )
    parser.add_argument("--target", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    check(parser, arguments)
    if os.geteuid() != 0:
        sys.exit("bench: dropping the page cache and mounting images needs root")

    # What is mounted is unmounted also when the command is ended.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    slotfs = (arguments.slotfs or arguments.target / "slotfs").resolve()
    if not slotfs.is_file():
        sys.exit(f"bench: there is no program `{slotfs}`")
    inputs = Inputs(arguments.target / "bench")
    measurements = {
        "start": lambda: start.rows(inputs, slotfs, arguments.repetitions),
        "import": lambda: reading.import_rows(inputs, slotfs, arguments.repetitions),
        "find": lambda: reading.find_rows(inputs, slotfs, arguments.repetitions),
        "memory": lambda: memory.rows(inputs, slotfs, arguments.repetitions),
        "index": lambda: opening.rows(arguments.root, arguments.repetitions),
        OVERLAY: lambda: overlay.rows(inputs, slotfs, arguments.root, arguments.repetitions),
    }
    names = arguments.names or NAMES
    if names == [ENGINE]:
        measurements = engine.measurements(inputs, slotfs, arguments.repetitions)
        names = [name for name in engine.PARTS if name in (arguments.only or engine.PARTS)]
    rows, parts, failed = [], {}, False
    for name in names:
        print(f"measuring {name}", file=sys.stderr)
        try:
            parts[name] = measurements[name]()
            rows += parts[name]
        except (OSError, RuntimeError) as error:
            print(f"bench: {name}: {error}", file=sys.stderr)
            failed = True
        if arguments.record and arguments.names == [ENGINE]:
            # It takes long: what was measured stays if the rest is cut off.
            record_engine(parts, engine.PARTS, arguments.repetitions, arguments.root, inputs.home)
    print(report.markdown(rows, arguments.repetitions, arguments.root, inputs.home))
    if arguments.json:
        arguments.json.write_text(
            json.dumps(report.as_json(rows, arguments.repetitions, arguments.root, inputs.home), indent=1) + "\n"
        )
    if arguments.record and not failed and arguments.names != [ENGINE]:
        keep = record_page if arguments.names else record
        keep(rows, arguments.repetitions, arguments.root, inputs.home)
    missed = [row.title for row in rows if row.met is False]
    if missed:
        print("goals not met: " + "; ".join(missed), file=sys.stderr)
    sys.exit(1 if failed else 0)


def check(parser: argparse.ArgumentParser, arguments: argparse.Namespace):
    """Refuses what does not go together."""
    unknown = set(arguments.names) - {*NAMES, *PAGES}
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}; there are {', '.join([*NAMES, *PAGES])}")
    if ENGINE in arguments.names and arguments.names != [ENGINE]:
        parser.error(f"{ENGINE} goes with no other name")
    if arguments.only and arguments.names != [ENGINE]:
        parser.error(f"--only goes with {ENGINE}")
    if arguments.record and arguments.names not in ([], *([page] for page in PAGES)):
        parser.error(f"--record writes a whole page: give no names, or only one of {', '.join(PAGES)}")


if __name__ == "__main__":
    main()
