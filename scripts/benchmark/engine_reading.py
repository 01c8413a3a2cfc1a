"""Reading a mounted tree: all of it warm, a large file warm, and a large file at random and cold."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from engine_decoding import PLAIN, fresh, slotfs_peer
from engine_inputs import LARGE, Packed, Source
from inputs import FILES
from measure import LIMIT, TooSlowError, drop_caches, in_turn, just_before
from peers import Peer, Plain
from reading import everyone
from report import Row

READS = 1000
READ_ONLY = "slotfs, fast, read-only"
CAT = ["sh", "-c", 'find "$1" -type f -print0 | xargs -0 cat >/dev/null', "sh"]


def peers(packed: Packed, foreign: str, squashfs: str) -> list:
    """Everybody who can show a tree, slotfs with packed packages and with one that it knows nothing of."""
    ratarmount = str(Path(sys.executable).parent / "ratarmount")
    return [
        Plain(),
        slotfs_peer(packed, "slotfs, compatible", "compatible"),
        slotfs_peer(packed, "slotfs, fast", "fast"),
        slotfs_peer(packed, "slotfs, foreign", foreign),
        slotfs_peer(packed, READ_ONLY, "fast", "--ro"),
        Peer("kernel squashfs", ["mount", "-o", "loop,ro", "{source}", "{place}"], squashfs, "mksquashfs"),
        Peer("kernel erofs", ["mount", "-t", "erofs", "-o", "loop,ro", "{source}", "{place}"], "erofs", "mkfs.erofs"),
        Peer("squashfuse", ["squashfuse", "{source}", "{place}"], squashfs, "squashfuse"),
        Peer("ratarmount", [ratarmount, "{source}", "{place}"], "tar.gz", ratarmount),
        Peer("archivemount", ["archivemount", "-o", "readonly", "{source}", "{place}"], "tar.gz", "archivemount"),
    ]


def warm_rows(packed: Packed, repetitions: int) -> list[Row]:
    large = packed.large()
    return [
        warm(
            packed.tree,
            f"`cat` of every file, {FILES} files, warm",
            1.15,
            repetitions,
            peers(packed, "package", "squashfs"),
            lambda place: [*CAT, place],
        ),
        warm(
            large,
            f"Sequential read of a file of {LARGE >> 20} MiB, warm",
            1.05,
            repetitions * 5,
            peers(packed, "tar.gz", "squashfs-128k"),
            lambda place: ["dd", f"if={place}/file", "of=/dev/null", "bs=1M"],
        ),
    ]


def warm(source: Source, title: str, most: float, repetitions: int, shown: list, command) -> Row:
    """Everything mounted at once and read once before; then everybody in turn."""
    with fresh(source.packed, cold=False), everyone(source, shown) as (places, absent):
        contenders = {name: (lambda place=place: bounded(command(place))) for name, place in places.items()}
        first = in_turn(contenders, 1)
        print(f"first reading: {first}", file=sys.stderr)
        too_slow = {name: reason for name, reason in first.items() if isinstance(reason, str)}
        able = {name: contender for name, contender in contenders.items() if name not in too_slow}
        measured = in_turn(just_before(able), repetitions)
    row = Row(title, "s", {**measured, **too_slow, **absent}, PLAIN, f"within {most} of the plain directory", READ_ONLY)
    # How files are opened is chosen for each mount: where nothing is written, the kernel need not ask.
    ratio = row.ratio(READ_ONLY)
    row.met = ratio is not None and ratio <= most
    row.notes = [
        f"{name}, which could be written to, takes {row.ratio(name):.2f} of the plain directory's time"
        for name in row.measured
        if name.startswith("slotfs") and name != READ_ONLY and row.ratio(name) is not None
    ]
    row.limit = "the plain directory"
    return row


def bounded(command: list, limit: float = LIMIT) -> float:
    """Seconds that a pipeline takes; all of it is killed at the limit, so that nothing keeps a mount busy."""
    started = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired as error:
        raise TooSlowError(f"over {limit:.0f} s") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        print(f"exit code {process.returncode} from {command}: {said.decode(errors='replace')[-300:]}", file=sys.stderr)
        raise RuntimeError(f"fails: exit code {process.returncode} from `{command[0]}`")
    return time.monotonic() - started


def random_rows(packed: Packed, repetitions: int) -> list[Row]:
    """Mounted anew each time, so that no server has anything decoded."""
    large = packed.large()
    squashfs = ["mount", "-o", "loop,ro", "{source}", "{place}"]
    shown = [
        *(peer for peer in peers(packed, "tar.gz", "squashfs-1m") if peer.name != "kernel squashfs"),
        Peer("kernel squashfs, 1 MiB blocks", squashfs, "squashfs-1m", "mksquashfs"),
        Peer("kernel squashfs, 128 KiB blocks", squashfs, "squashfs-128k", "mksquashfs"),
    ]
    contenders: dict[str, Callable[[], float]] = {}
    absent = {}
    for peer in shown:
        reason = peer.missing(large)
        if reason is None:
            contenders[peer.name] = lambda peer=peer: mount_and_jump(large, peer)
        else:
            absent[peer.name] = reason
    against = "kernel squashfs, 1 MiB blocks"
    row = Row(
        f"{READS} random reads of 4 KiB in a file of {LARGE >> 20} MiB, page cache dropped",
        "s",
        {**in_turn(contenders, repetitions), **absent},
        against,
        "the fast profile is faster than kernel squashfs with zstd, blocks of the same size and the same level",
        "slotfs, fast",
    )
    mine = row.ratio("slotfs, fast")
    row.met = mine is not None and mine < 1
    row.limit = "the plain directory, which decodes nothing"
    return [row]


def mount_and_jump(source: Source, peer) -> float:
    """Seconds of the reads alone. What a peer knows of the archive it may know: its first mount is not counted."""
    with fresh(source.packed, cold=False), peer.mounted(source, source.packed.scratch / "mount") as place:
        drop_caches()
        return jump(place / "file", LIMIT)


def jump(path: Path, limit: float) -> float:
    """Seconds that fio reads for, without its own start."""
    command = ["fio", "--name=random", f"--filename={path}", "--rw=randread", "--readonly", "--bs=4k"]
    command += [
        "--ioengine=psync",
        f"--size={LARGE}",
        f"--io_size={READS * 4096}",
        "--randseed=1",
        f"--runtime={limit}",
    ]
    done = subprocess.run([*command, "--output-format=json"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"fails: {done.stderr.strip().replace(f'{path.parent}/', '')[-200:]}")
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    if job["read"]["total_ios"] < READS:
        raise TooSlowError(f"over {limit:.0f} s")
    # Milliseconds are too coarse for the total; the mean of single reads is told in nanoseconds.
    return job["read"]["clat_ns"]["mean"] * job["read"]["total_ios"] / 1e9
