"""How time and memory are measured: contenders in turn, medians, caches dropped where a row says cold."""

import atexit
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# What a run has put aside goes at once where the disk has less room than this, in bytes.
ROOM = 12 << 30
_numbers = itertools.count()
_aside: set[Path] = set()

# A contender slower than this once is given up: it would take hours in a table where others take seconds.
LIMIT = 30.0


class TooSlowError(RuntimeError):
    """A contender passed the time limit."""


def put_aside(folder: Path):
    """Moves a used directory away, to be removed when all is measured.

    Where thousands of files were removed a moment ago, ext4 looks long for the number of each new one, because
    it does not give them out again for some minutes (`recently_deleted` in fs/ext4/ialloc.c): the next contender
    would pay for that.
    """
    if not folder.exists():
        return
    used = folder.parent / ".used"
    used.mkdir(exist_ok=True)
    if used not in _aside:
        _aside.add(used)
        atexit.register(shutil.rmtree, used, ignore_errors=True)
    folder.rename(used / f"{os.getpid()}-{next(_numbers)}")
    if shutil.disk_usage(used).free < ROOM:
        shutil.rmtree(used, ignore_errors=True)


def drop_caches():
    """Empties the kernel's caches of file contents, names and attributes."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def run(command: list, limit: float = LIMIT, **options) -> float:
    """Runs a command to its end and returns the seconds it took; its failure is an error."""
    started = time.monotonic()
    try:
        subprocess.run(
            [str(part) for part in command],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=limit,
            **options,
        )
    except subprocess.TimeoutExpired as error:
        raise TooSlowError(f"over {limit:.0f} s") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()[-500:]
        print(f"exit code {error.returncode} from {command}: {said}", file=sys.stderr)
        raise RuntimeError(f"fails: exit code {error.returncode} from `{Path(command[0]).name}`") from error
    return time.monotonic() - started


def in_turn(
    contenders: dict[str, Callable[[], float]], repetitions: int, before: Callable[[], None] = lambda: None
) -> dict[str, list[float] | str]:
    """Measures A B A B …, so that whatever else the machine does meets all alike.

    Returns each contender's times, or why it has none.
    """
    times: dict[str, list[float] | str] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name, contender in contenders.items():
            measured = times[name]
            if isinstance(measured, str):
                continue
            before()
            try:
                measured.append(contender())
            except RuntimeError as error:
                times[name] = str(error)
    return times


def just_before(contenders: dict[str, Callable[[], float]]) -> dict[str, Callable[[], float]]:
    """Each contender, right after one turn of its own that is not counted.

    What a row calls warm must be so: some systems give up pages of files that nobody has read for a minute, and
    where many take turns that is before the next one.
    """

    def second(contender: Callable[[], float]) -> Callable[[], float]:
        def both() -> float:
            contender()
            return contender()

        return both

    return {name: second(contender) for name, contender in contenders.items()}


def median(measured: list[float] | str) -> float | None:
    return statistics.median(measured) if isinstance(measured, list) and measured else None


def resident(pid: int, kind: str = "VmRSS") -> int:
    """Bytes of memory that a process holds now; `RssAnon` leaves out pages of files, which the kernel may take back."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {kind} for process {pid}")


def fuse_servers() -> set[int]:
    """The processes that hold the FUSE device open: one per mount."""
    holders = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(entry.readlink()) == "/dev/fuse" for entry in (process / "fd").iterdir()):
                holders.add(int(process.name))
        except OSError:
            continue  # it has ended
    return holders
