"""What grows with what is not touched: a million files, a slot of 20 GiB, a thousand mounts."""

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from engine_decoding import fresh, slotfs_peer
from engine_inputs import HUGE, MILLION, MOUNTS, Packed
from inputs import quiet
from measure import fuse_servers, resident, run
from peers import Peer, wait_until
from report import Row

# A walk over a million files.
WALK = 180.0
# What it may take to make an image of them for a peer; sqfstar's time grows with the square of their number.
MAKING = 300
# Mounts at each end of the thousand whose times are compared.
END = 50


class Million:
    """The archive of a million files as a source of peers."""

    def __init__(self, packed: Packed):
        self.packed = packed
        self.home = packed.home
        self.cache = packed.scratch / "cache"

    def image(self, kind: str) -> Path | None:
        archive = self.packed.million()
        if kind == "tar.zst":
            return archive
        if kind == "fast":
            return self.packed.package("million", "fast", [archive], "--level", "3")
        if not shutil.which("sqfstar"):
            return None
        return self.packed.inputs.once(self.home / "million.squashfs", lambda made: make_squashfs(archive, made))


def make_squashfs(archive: Path, made: Path):
    command = f"zstd -qdc '{archive}' | timeout {MAKING} sqfstar -comp zstd -quiet -no-progress '{made}'"
    try:
        quiet(["sh", "-c", command])
    except RuntimeError as error:
        print(error, file=sys.stderr)
        raise RuntimeError(f"no image: sqfstar fails, or takes over {MAKING} s for it") from error


def memory_rows(packed: Packed) -> list[Row]:
    """Resident memory of the serving process once it is mounted, and after a walk."""
    source = Million(packed)
    ratarmount = str(Path(sys.executable).parent / "ratarmount")
    peers = [
        slotfs_peer(packed, "slotfs, packed", "fast"),
        slotfs_peer(packed, "slotfs, foreign tar.zst", "tar.zst"),
        Peer("squashfuse", ["squashfuse", "{source}", "{place}"], "squashfs", "squashfuse"),
        Peer("ratarmount", [ratarmount, "--index-file", ":memory:", "{source}", "{place}"], "tar.zst", ratarmount),
    ]
    before: dict[str, list[float] | str] = {}
    after: dict[str, list[float] | str] = {}
    own: dict[str, float] = {}
    for peer in peers:
        print(f"measuring memory: {peer.name}", file=sys.stderr)
        try:
            reason = peer.missing(source)
            if reason:
                raise RuntimeError(reason)
            with fresh(packed):
                before[peer.name], after[peer.name], own[peer.name] = around_walk(source, peer)
            print(f"{peer.name}: {before[peer.name]} bytes, then {after[peer.name]}", file=sys.stderr)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            reason = "over 600 s to mount" if isinstance(error, subprocess.TimeoutExpired) else str(error)
            before.setdefault(peer.name, reason)
            after.setdefault(peer.name, reason)
    rows = []
    for when, measured, most in (("before it is read", before, 30), ("after a `find`", after, 150)):
        row = Row(
            f"Memory of the serving process, {MILLION:,} files, {when}",
            "MiB",
            measured,
            "slotfs, packed",
            f"under {most} MiB",
            "slotfs, packed",
        )
        mine = [row.value(name) for name in measured if name.startswith("slotfs")]
        row.met = all(value is not None and value < most << 20 for value in mine)
        rows.append(row)
    shares = ", ".join(f"{name} {value / (1 << 20):.1f} MiB" for name, value in own.items())
    rows[-1].notes.append(f"Without pages of files, such as the index, which the kernel takes back at need: {shares}")
    return rows


def around_walk(source: Million, peer: Peer) -> tuple[list[float], list[float] | str, float]:
    """What is held before every file was looked at and after, and how much of the latter is no page of a file."""
    others = fuse_servers()
    with peer.mounted(source, source.packed.scratch / "mount") as place:
        servers = serving(source.packed, peer, place, others)
        before: list[float] = held(servers)
        after: list[float] | str
        try:
            run(["find", place, "-printf", "%s"], WALK)
            after = held(servers)
        except RuntimeError as error:
            after = str(error)
        return before, after, sum(held(servers, "RssAnon"))


def serving(packed: Packed, peer: Peer, place: Path, others: set[int]) -> set[int]:
    """slotfs says itself who serves; of the others, only one that is new can be it."""
    if peer.program == str(packed.slotfs):
        return {mount["pid"] for mount in mounts(packed, packed.scratch / f"cache-{peer.source}", place)}
    new = {pid for pid in fuse_servers() - others if str(place).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()}
    if not new:
        raise RuntimeError("no serving process found")
    return new


def held(servers: set[int], kind: str = "VmRSS") -> list[float]:
    return [float(sum(resident(server, kind) for server in servers))]


def mounts(packed: Packed, cache: Path, below: Path) -> list[dict]:
    """The mounts of a cache at or below a directory: place and serving process of each."""
    done = subprocess.run(
        [packed.slotfs, "list", "--json", "--cache-dir", cache],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"`slotfs list` fails: {done.stderr.strip()[-300:]}")
    found = [environment["mount"] for environment in environments(json.loads(done.stdout)) if environment.get("mount")]
    return [mount for mount in found if Path(mount["mountpoint"]).is_relative_to(below)]


def environments(listed) -> list[dict]:
    return listed if isinstance(listed, list) else listed["environments"]


def large_rows(packed: Packed, repetitions: int) -> list[Row]:
    """A slot of 20 GiB against one a thousandth of its size: mounting, opening, reading at the end, memory."""
    title = "slot of 20 GiB against one of 20 MiB, packed, never seen"
    seconds: dict[str, dict[str, list[float]]] = {"mount": {}, "open": {}}
    memory: dict[str, list[float]] = {}
    subjects = {}
    for profile in ("compatible", "fast"):
        subjects[f"slotfs, {profile}, 20 MiB"] = (packed.modest(profile), HUGE // 1024)
        subjects[f"slotfs, {profile}, 20 GiB"] = (packed.huge(profile), HUGE)
    for _ in range(repetitions):
        for name, (package, size) in subjects.items():
            mounted, opened, resident_ = touch_end(packed, package, size)
            seconds["mount"].setdefault(name, []).append(mounted)
            seconds["open"].setdefault(name, []).append(opened)
            memory.setdefault(name, []).append(resident_)
    small, huge = "slotfs, fast, 20 MiB", "slotfs, fast, 20 GiB"
    rows = [
        Row(f"Mounting a {title}", "s", seconds["mount"], small, "does not grow with the slot", huge),
        Row(
            f"Opening its file and reading 4 KiB at its end, {title}",
            "s",
            seconds["open"],
            small,
            "does not grow with the slot",
            huge,
            short=False,
        ),
        Row(
            f"Memory of the serving process after that, {title}",
            "MiB",
            memory,
            small,
            "does not grow with the slot",
            huge,
        ),
    ]
    for row in rows:
        pairs = [
            (row.value(f"slotfs, {profile}, 20 MiB"), row.value(f"slotfs, {profile}, 20 GiB"))
            for profile in ("compatible", "fast")
        ]
        # A millisecond and a megabyte are within what two runs of the same differ by.
        slack = 0.003 if row.unit == "s" else 1 << 20
        row.met = all(large <= small * 1.2 + slack for small, large in pairs)
    return rows


def touch_end(packed: Packed, package: Path, size: int) -> tuple[float, float, float]:
    """Seconds to mount, seconds to open and read at the end, and bytes of memory then."""
    with fresh(packed, cold=False) as folder:
        place, cache = folder / "mount", folder / "cache"
        with unmounting(packed, folder):
            mounted = run([packed.slotfs, "mount", package, place, "--cache-dir", cache], WALK)
            started = time.monotonic()
            with (place / "file").open("rb", buffering=0) as file:
                file.seek(size - 4096)
                if not file.read(4096).endswith(b"end"):
                    raise RuntimeError(f"{package.name}: the file does not end as it was written")
            opened = time.monotonic() - started
            servers = {mount["pid"] for mount in mounts(packed, cache, folder)}
            return mounted, opened, held(servers)[0]


def mount_rows(packed: Packed) -> list[Row]:
    """A thousand packages mounted at once, each by a command of its own, all in one cache."""
    packages = packed.many()
    with fresh(packed) as folder, unmounting(packed, folder):
        cache = folder / "cache"
        mounting, opening = [], []
        for package in packages:
            place = folder / "mounts" / package.stem
            place.parent.mkdir(exist_ok=True)
            mounting.append(run([packed.slotfs, "mount", package, place, "--cache-dir", cache]))
            started = time.monotonic()
            content = (place / "file").read_bytes()
            opening.append(time.monotonic() - started)
            if not content.startswith(b"file of package"):
                raise RuntimeError(f"{place}: the file is not what was packed")
        servers = {mount["pid"] for mount in mounts(packed, cache, folder)}
        if len(servers) != len(packages):
            raise RuntimeError(f"{len(servers)} servers for {len(packages)} mounts")
        memory = [proportional(server) for server in servers]
        started = time.monotonic()
    unmounted = time.monotonic() - started
    first, last = f"slotfs, the first {END}", f"slotfs, the last {END}"
    rows = []
    for title, values in (("Mounting", mounting), ("Opening and reading the file of", opening)):
        row = Row(
            f"{title} one of {MOUNTS:,} packages that are mounted at once",
            "s",
            {first: values[:END], last: values[-END:]},
            first,
            "does not grow with the mounts there are",
            last,
        )
        row.met = row.value(last) <= row.value(first) * 1.5 + 0.003
        rows.append(row)
    rows[0].notes.append(f"All are mounted in {sum(mounting):.1f} s and unmounted in {unmounted:.1f} s")
    each = Row(
        f"Memory of {MOUNTS:,} mounts at once, shared pages counted once",
        "MiB",
        {"slotfs, each": memory, "slotfs, all": [sum(memory)]},
        "slotfs, each",
        "reported",
        "slotfs, all",
    )
    largest, middle = (value / (1 << 20) for value in (max(memory), statistics.median(memory)))
    each.notes.append(f"The largest server has {largest:.1f} MiB, the median {middle:.1f} MiB")
    return [*rows, each]


def proportional(pid: int) -> float:
    """Bytes of memory that a process holds, what it shares divided by those who share it."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1]) * 1024
    raise RuntimeError(f"no Pss for process {pid}")


@contextlib.contextmanager
def unmounting(packed: Packed, folder: Path):
    """Takes away every mount below a directory, whatever happened, and is not interrupted at that."""
    try:
        yield
    finally:
        heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for place in mounted_below(folder):
                quiet_unmount(packed, place)
            for place in mounted_below(folder):
                subprocess.run(["umount", "-l", place], capture_output=True)
            wait_until(lambda: not mounted_below(folder), f"mounts are left below {folder}")
        finally:
            signal.signal(signal.SIGINT, heard)


def quiet_unmount(packed: Packed, place: str):
    # A session of its own: Ctrl-C goes to all that the terminal has in front.
    subprocess.run([packed.slotfs, "unmount", place], capture_output=True, start_new_session=True)


def mounted_below(folder: Path) -> list[str]:
    places = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [place for place in places if place.startswith(f"{folder}{os.sep}")]
