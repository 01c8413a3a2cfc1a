"""Those that are measured: slotfs, and everything else that can show the same tree."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from inputs import Inputs


@dataclass
class Peer:
    """One way of showing a tree: the command that mounts it, with what is mounted in `{}`."""

    name: str
    mount: list[str]
    source: str
    program: str
    unmount: tuple[str, ...] = ("umount",)
    before: tuple[str, ...] = ()
    """What stands before every command, also before those that use the tree."""

    def missing(self, inputs: Inputs) -> str | None:
        """Why this peer cannot be measured here."""
        if not shutil.which(self.program):
            return f"`{Path(self.program).name}` is not installed"
        if not inputs.image(self.source):
            return f"no {self.source} image could be made"
        return None

    @contextlib.contextmanager
    def mounted(self, inputs: Inputs, place: Path) -> Iterator[Path]:
        """Mounts the tree at `place`, and takes it away whatever happens."""
        place.mkdir(parents=True, exist_ok=True)
        command = [
            part.format(source=inputs.image(self.source), place=place, cache=inputs.cache)
            for part in (*self.before, *self.mount)
        ]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=600)
        if done.returncode:
            raise RuntimeError(f"{self.name} does not mount: {done.stderr.decode(errors='replace').strip()[-300:]}")
        try:
            wait_until(lambda: os.path.ismount(place), f"{self.name} did not mount within 60 s")
            yield place
        finally:
            end = subprocess.run([*self.unmount, str(place)], capture_output=True)
            if end.returncode:
                subprocess.run(["umount", "-l", str(place)], capture_output=True)
            wait_until(lambda: not os.path.ismount(place), f"{self.name} did not unmount within 60 s")


def wait_until(condition, message: str):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise RuntimeError(message)


@dataclass
class Plain:
    """The same files in an ordinary directory: what all others are compared with."""

    name: str = "plain directory"
    before: tuple[str, ...] = ()

    def missing(self, inputs: Inputs) -> str | None:
        return None

    @contextlib.contextmanager
    def mounted(self, inputs: Inputs, place: Path) -> Iterator[Path]:
        yield inputs.tree


def slotfs_with(slotfs: Path, name: str, *flags: str) -> Peer:
    """slotfs in another way than the usual one, with its own cache: an environment is mounted one way at a time."""
    cache = "{cache}-" + "".join(flags).strip("-")
    command = [str(slotfs), "mount", "{source}", "{place}", "--cache-dir", cache, *flags]
    return Peer(name, command, "package", str(slotfs), (str(slotfs), "unmount"))


def on_one_processor(peer):
    """The same where asking and answering share a processor, so that none has to be woken for a request."""
    return replace(peer, name=f"{peer.name}, on one processor", before=("taskset", "--cpu-list", "0"))


def all_peers(slotfs: Path) -> list:
    ratarmount = Path(sys.executable).parent / "ratarmount"
    return [
        Plain(),
        Peer(
            "slotfs",
            [str(slotfs), "mount", "{source}", "{place}", "--cache-dir", "{cache}"],
            "package",
            str(slotfs),
            (str(slotfs), "unmount"),
        ),
        Peer("kernel squashfs", ["mount", "-o", "loop,ro", "{source}", "{place}"], "squashfs", "mksquashfs"),
        Peer("kernel erofs", ["mount", "-t", "erofs", "-o", "loop,ro", "{source}", "{place}"], "erofs", "mkfs.erofs"),
        Peer("squashfuse", ["squashfuse", "{source}", "{place}"], "squashfs", "squashfuse"),
        Peer("ratarmount", [str(ratarmount), "{source}", "{place}"], "tar.gz", str(ratarmount)),
        Peer("archivemount", ["archivemount", "-o", "readonly", "{source}", "{place}"], "tar.gz", "archivemount"),
    ]
