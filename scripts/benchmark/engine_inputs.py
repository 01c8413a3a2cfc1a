"""What the engine is measured on: the tree in every form, packages of three sizes, one large file, a million files."""

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from inputs import Inputs, quiet

PROFILES = {"compatible": 6, "fast": 3}
"""The profiles of `slotfs pack`, and the level that is the default of each."""
SIZES = {"10 MB": 10_000_000, "300 MB": 300_000_000, "3 GB": 3_000_000_000}
LARGE = 512 << 20
MILLION = 1_000_000
HUGE = 20 << 30
MOUNTS = 1000

COMPRESSORS = {
    "tar.gz": "gzip -6 -n",
    "tar.zst": "zstd -q -3 -T1",
    "tar.xz": "xz -6 -T1",
    "tar.bz2": "bzip2 -9",
}
IMAGES = {
    "squashfs": ["mksquashfs", "{tree}", "{}", "-comp", "zstd", "-quiet", "-no-progress"],
    "squashfs-1m": [
        *["mksquashfs", "{tree}", "{}", "-comp", "zstd", "-Xcompression-level", "3", "-b", "1M"],
        *["-quiet", "-no-progress"],
    ],
    "squashfs-128k": [
        *["mksquashfs", "{tree}", "{}", "-comp", "zstd", "-Xcompression-level", "3", "-b", "128K"],
        *["-quiet", "-no-progress"],
    ],
    "erofs": ["mkfs.erofs", "-zlz4hc", "{}", "{tree}"],
}


class Source:
    """One tree in every form that a peer can show; each is made once, when it is first asked for."""

    def __init__(self, packed: "Packed", name: str, tree: Path):
        self.packed = packed
        self.name = name
        self.tree = tree
        self.home = packed.home
        self.cache = packed.scratch / "cache"

    def image(self, kind: str) -> Path | None:
        """The tree as one file, or None when it cannot be made here."""
        if kind in PROFILES:
            return self.packed.package(self.name, kind, [self.tree], "--level", str(PROFILES[kind]))
        if kind == "package":
            return self.packed.inputs.package("rs")
        path = self.home / f"{self.name}.{kind}"
        if kind == "tar":
            return self.packed.inputs.once(
                path, lambda made: quiet(["tar", "--sort=name", "-C", self.tree, "-cf", made, "."])
            )
        if kind in COMPRESSORS:
            if not shutil.which(COMPRESSORS[kind].split()[0]):
                return None
            tar = self.image("tar")
            return self.packed.inputs.once(
                path, lambda made: quiet(["sh", "-c", f"{COMPRESSORS[kind]} <'{tar}' >'{made}'"])
            )
        command = IMAGES[kind]
        if not shutil.which(command[0]):
            return None
        return self.packed.inputs.once(
            path,
            lambda made: quiet([part.replace("{tree}", str(self.tree)).replace("{}", str(made)) for part in command]),
        )


class Packed:
    """What `slotfs pack` makes, anew for every build of slotfs; everything else stays."""

    def __init__(self, inputs: Inputs, slotfs: Path):
        self.inputs = inputs
        self.home = inputs.home
        self.slotfs = slotfs
        self.scratch = inputs.home / "engine"
        """Caches, mounts and copies of one run; removed before the next."""
        with slotfs.open("rb") as file:
            build = hashlib.file_digest(file, "sha256").hexdigest()[:12]
        self.made = inputs.home / f"packed-{build}"
        for other in inputs.home.glob("packed-*"):
            if other != self.made:
                shutil.rmtree(other)
        self.made.mkdir(exist_ok=True)
        self.tree = Source(self, "tree", inputs.tree)

    def large(self) -> Source:
        """A tree that holds one large file, which compresses to about a fourth."""
        return Source(self, "large", self.inputs.once(self.home / "large", make_large))

    def package(self, name: str, profile: str, sources: list, *options: str) -> Path:
        """Packs sources; what `pack` says of the package is beside it, as JSON."""
        path = self.made / f"{name}-{profile}.psp"
        return self.inputs.once(path, lambda made: self.pack(made, name, profile, sources, *options))

    def pack(self, path: Path, name: str, profile: str, sources: list, *options: str):
        report = path.with_name(path.name.removeprefix(".unfinished-") + ".json")
        words = [self.slotfs, "pack", *sources, "--output", path, "--profile", profile, "--name", name, "--json"]
        into = ["sh", "-c", 'out=$1; shift; exec "$@" >"$out"', "sh", report]
        quiet([*into, *words, "--key-seed", "bench", *options])

    def report(self, name: str, profile: str) -> dict:
        return json.loads((self.made / f"{name}-{profile}.psp.json").read_text())

    def science(self, profile: str) -> Path:
        """The tree with a program that tells the time; the compatible one with FlavorPack's launcher in front."""
        stamp = f"{self.inputs.stamp},target=bin/stamp,mode=0755"
        return self.package("science", profile, [self.tree.tree, stamp], *self.started("rs"))

    def filled(self, size: str, profile: str) -> Path:
        """A package whose one slot holds the program and so much that cannot be compressed."""
        name = f"filled-{size.replace(' ', '-')}"
        path = self.made / f"{name}-{profile}.psp"
        if not path.exists():
            tree = self.inputs.once(self.home / name, lambda made: self._fill(made, SIZES[size]))
            self.package(name, profile, [tree], "--level", "1", *self.started("rs"))
        return path

    def forget_filling(self, size: str):
        """Removes the files of which the packages were made."""
        shutil.rmtree(self.home / f"filled-{size.replace(' ', '-')}", ignore_errors=True)

    def started(self, launcher: str) -> list[str]:
        helpers = Path(importlib.util.find_spec("flavor").origin).parent / "helpers" / "bin"
        front = next(helpers.glob(f"flavor-{launcher}-launcher*"))
        return ["--command", "{workenv}/bin/stamp", "--launcher", str(front)]

    def _fill(self, path: Path, size: int):
        (path / "bin").mkdir(parents=True)
        (path / "data").mkdir()
        shutil.copy2(self.inputs.stamp, path / "bin" / "stamp")
        for number in range(size // 1_000_000):
            (path / "data" / f"{number:04}").write_bytes(os.urandom(1_000_000))

    def million(self) -> Path:
        """A million files of a few bytes, as an archive."""
        return self.inputs.once(self.home / "million.tar.zst", make_million)

    def huge(self, profile: str) -> Path:
        """A package with a file of 20 GiB, which is a hole but for its ends."""
        return self._of_file("huge", profile, lambda path: make_sparse(path, HUGE))

    def modest(self, profile: str) -> Path:
        """The same, a thousandth of its size."""
        return self._of_file("modest", profile, lambda path: make_sparse(path, HUGE // 1024))

    def _of_file(self, name: str, profile: str, make: Callable[[Path], None]) -> Path:
        tree = self.inputs.once(self.home / name, make)
        return self.package(name, profile, [tree], "--level", "1")

    def many(self) -> list[Path]:
        """A thousand small packages, each of its own name and content."""
        folder = self.inputs.once(self.made / "many", self._make_many)
        return sorted(folder.glob("*.psp"))

    def _make_many(self, path: Path):
        path.mkdir()
        content = path / "content"
        content.mkdir()
        for number in range(MOUNTS):
            (content / "file").write_text(f"file of package {number}\n")
            self.pack(path / f"many-{number:04}.psp", f"many-{number:04}", "fast", [content])
        shutil.rmtree(content)


def make_large(path: Path):
    """Words out of a vocabulary of 4096: no two stretches are the same, so nothing finds repeats of more than words."""
    path.mkdir()
    vocabulary = [os.urandom(2 + number % 5).hex().encode() + b" " for number in range(4096)]
    table = [vocabulary[number & 4095] for number in range(1 << 16)]
    with (path / "file").open("wb") as file:
        while file.tell() < LARGE:
            file.write(b"".join(map(table.__getitem__, memoryview(os.urandom(1 << 20)).cast("H"))))
        file.truncate(LARGE)


def make_million(path: Path):
    """Written header by header, which takes seconds where a million real files would take minutes."""
    tar = path.with_name(".million.tar")
    with tar.open("wb") as file:
        for number in range(MILLION):
            if number % 100 == 0:
                file.write(tar_header(f"directory-{number // 100:05}/", 0o755, 0, b"5"))
            content = f"file {number}\n".encode()
            file.write(tar_header(f"directory-{number // 100:05}/file-{number:07}.txt", 0o644, len(content), b"0"))
            file.write(content.ljust(512, b"\0"))
        file.write(bytes(1024))
    quiet(["zstd", "-q", "-3", "-T1", tar, "-o", path])
    tar.unlink()


def tar_header(name: str, mode: int, size: int, kind: bytes) -> bytes:
    """A ustar header (POSIX.1-2001)."""
    head = name.encode().ljust(100, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, 0, 0, size, 1_700_000_000)
    rest = kind + bytes(100) + b"ustar\00000" + bytes(247)
    total = sum(head) + 8 * 32 + sum(rest)
    return head + b"%06o\0 " % total + rest


def make_sparse(path: Path, size: int):
    path.mkdir()
    with (path / "file").open("wb") as file:
        file.write(b"begin")
        file.seek(size - 3)
        file.write(b"end")
