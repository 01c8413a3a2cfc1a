"""Writing over read-only files: slotfs's overlay beside the kernel's and others, on the same disk."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from inputs import quiet
from measure import in_turn, run
from peers import wait_until
from report import Row

KERNEL = "kernel overlayfs"
PLAIN = "plain directory"
FILES = 20_000
LARGE = 1 << 30
# Seconds that a build may take, which is not cut short by the limit for everything else.
BUILDING = 300.0


@dataclass
class Overlay:
    """One way of laying an empty writable directory over a read-only one."""

    name: str
    mount: list[str]
    program: str
    options: str = "lowerdir={lower},upperdir={upper},workdir={work}"
    unmount: tuple[str, ...] = ("umount",)

    def missing(self) -> str | None:
        """Why this one cannot be measured here."""
        return None if shutil.which(self.program) else f"`{Path(self.program).name}` is not installed"

    @contextlib.contextmanager
    def mounted(self, lower: Path, home: Path) -> Iterator[Path]:
        """Mounts with an upper directory that was never used, and removes what was written."""
        place, upper, work = (home / name for name in ("place", "upper", "work"))
        for directory in (place, upper, work):
            directory.mkdir(parents=True)
        fields = {"lower": lower, "upper": upper, "work": work, "place": place}
        fields["options"] = self.options.format(**fields)
        try:
            quiet([part.format(**fields) for part in self.mount])
            wait_until(lambda: os.path.ismount(place), f"{self.name} did not mount within 60 s")
            try:
                yield place
            finally:
                self._unmount(place)
        finally:
            shutil.rmtree(home)

    def _unmount(self, place: Path):
        """What the work has started may still be ending and keep the mount busy for a moment."""
        last = None
        for _ in range(50):
            last = subprocess.run([*self.unmount, str(place)], capture_output=True, text=True)
            if last.returncode == 0:
                return wait_until(lambda: not os.path.ismount(place), f"{self.name} did not unmount within 60 s")
            time.sleep(0.2)
        subprocess.run(["umount", "-l", str(place)], capture_output=True)
        raise RuntimeError(f"{self.name} does not unmount: {last.stderr.strip()[-300:]}")


@dataclass
class Plain:
    """The same work on a copy in an ordinary directory."""

    name: str = PLAIN

    def missing(self) -> str | None:
        return None

    @contextlib.contextmanager
    def mounted(self, lower: Path, home: Path) -> Iterator[Path]:
        home.parent.mkdir(parents=True, exist_ok=True)
        quiet(["cp", "-a", lower, home])
        try:
            yield home
        finally:
            shutil.rmtree(home)


def contenders(slotfs: Path) -> list:
    helper = [str(slotfs), "overlay", "-o", "{options}", "{place}"]
    unmount = (str(slotfs), "unmount", "--wait", "30")
    return [
        Plain(),
        Overlay(KERNEL, ["mount", "-t", "overlay", "overlay", "-o", "{options}", "{place}"], "mount"),
        Overlay("slotfs", helper, str(slotfs), "lowerdir={lower},upperdir={upper},workdir={work},metacopy=on", unmount),
        Overlay(
            "slotfs, no passthrough",
            helper,
            str(slotfs),
            "lowerdir={lower},upperdir={upper},workdir={work},metacopy=on,nopassthrough",
            unmount,
        ),
        Overlay("fuse-overlayfs", ["fuse-overlayfs", "-o", "{options}", "{place}"], "fuse-overlayfs"),
        Overlay(
            "unionfs-fuse",
            ["unionfs", "-o", "{options}", "{upper}=RW:{lower}=RO", "{place}"],
            "unionfs",
            "cow,use_ino,default_permissions",
        ),
    ]


@dataclass
class Work:
    """One kind of work: what is done before and not counted, what is counted, and what it has to reach."""

    title: str
    lower: Path
    must: str
    most: dict[str, float]
    """By contender, how many times the time of kernel overlayfs it may take."""
    act: Callable[[Path], float]
    prepare: Callable[[Path], None] = lambda place: None
    against: str = KERNEL


def rows(inputs, slotfs: Path, root: Path, repetitions: int) -> list[Row]:
    """Every kind of work, by everybody in turn, each time with a new upper directory."""
    shutil.rmtree(inputs.home / "overlay", ignore_errors=True)
    return [measure(work, slotfs, inputs.home / "overlay", repetitions) for work in works(inputs, root)]


def measure(work: Work, slotfs: Path, home: Path, repetitions: int) -> Row:
    print(f"measuring overlay: {work.title}", file=sys.stderr)
    absent, present = {}, {}
    for contender in contenders(slotfs):
        reason = contender.missing()
        if reason is None:
            present[contender.name] = lambda contender=contender: once(work, contender, home)
        else:
            absent[contender.name] = reason
    row = Row(work.title, "s", {**in_turn(present, repetitions), **absent}, work.against, work.must)
    judged = {name: (row.ratio(name), most) for name, most in work.most.items()}
    if judged:
        row.met = all(ratio is not None and ratio <= most for ratio, most in judged.values())
        for name, (ratio, most) in judged.items():
            if ratio is not None:
                row.notes.append(f"{name} takes {ratio:.2f}, at most {most:.2f}")
    return row


def once(work: Work, contender, home: Path) -> float:
    os.sync()
    with contender.mounted(work.lower, home / contender.name.replace(" ", "-").replace(",", "")) as place:
        work.prepare(place)
        return work.act(place)


def works(inputs, root: Path) -> list[Work]:
    made = inputs.home / "overlay-inputs"
    made.mkdir(exist_ok=True)
    large = inputs.once(made / "large", make_large)
    many = inputs.once(made / "many.tar", lambda path: make_many(path, made))
    project = inputs.once(made / "project", lambda path: make_project(path, root))
    empty = inputs.once(made / "empty", lambda path: path.mkdir())
    write = lambda place: run(["dd", "if=/dev/zero", f"of={place}/new", "bs=1M", "count=1024", "conv=fdatasync"])  # noqa: E731
    build = ["cargo", "build", "--quiet", "--offline", "--package", "slotfs-policy", "--jobs", "1"]
    tenth = {"slotfs": 1 / 0.9, "slotfs, no passthrough": 1 / 0.6}
    return [
        Work("Writing 1 GiB, synced at the end", empty, "0.9 of its speed, 0.6 without passthrough", tenth, write),
        Work(
            "Reading back 1 GiB that was just written",
            empty,
            "0.9 of its speed, 0.6 without passthrough",
            tenth,
            lambda place: run(["dd", f"if={place}/new", "of=/dev/null", "bs=1M"]),
            write,
        ),
        *(
            Work(
                f"Writing 64 MiB into a 1 GiB file at random, 4 KiB at a time, {how}",
                large,
                f"{share} of its speed",
                {"slotfs": 1 / share},
                lambda place, direct=direct: random_writes(place / "file", direct),
                # The copy of the lower file is another row.
                lambda place: touch(place / "file"),
            )
            for how, direct, share in (("direct", 1, 0.8), ("buffered", 0, 0.5))
        ),
        Work(
            f"Unpacking {FILES} small files from a tar archive",
            empty,
            "within 2.0 of its time",
            {"slotfs": 2.0},
            lambda place: run(["tar", "-xf", many, "-C", place]),
        ),
        Work(
            "`git status` in a work tree of that many files, second time",
            project,
            "within 1.15 of its time",
            {"slotfs": 1.15},
            lambda place: run(["git", "-C", place / "many", "status", "--porcelain"]),
            lambda place: run(["git", "-C", place / "many", "status", "--porcelain"]) and None,
        ),
        Work(
            "`cargo build` of a library, target directory inside",
            project,
            "within 1.15 of its time",
            {"slotfs": 1.15},
            lambda place: run(
                build, BUILDING, cwd=place / "source", env=os.environ | {"CARGO_TARGET_DIR": f"{place}/target"}
            ),
        ),
        Work(
            "First write to a 1 GiB file of the lower directory",
            large,
            "one copy, at the speed of the disk",
            {"slotfs": 1.25},
            lambda place: run(["dd", "if=/dev/zero", f"of={place}/file", "bs=4k", "count=1", "conv=notrunc,fdatasync"]),
        ),
        Work(
            "`chmod` of a 1 GiB file of the lower directory",
            large,
            "no content is copied: at most a tenth of its time",
            {"slotfs": 0.1},
            lambda place: run(["chmod", "600", place / "file"]),
        ),
    ]


def touch(path: Path):
    with path.open("r+b") as file:
        file.write(b"x")


def random_writes(path: Path, direct: int) -> float:
    """Seconds that fio writes for, without its own start."""
    command = ["fio", "--name=random", f"--filename={path}", "--rw=randwrite", "--bs=4k", "--ioengine=psync"]
    command += [f"--size={LARGE}", "--io_size=64m", f"--direct={direct}", "--end_fsync=1", "--randseed=1"]
    done = subprocess.run([*command, "--output-format=json"], capture_output=True, text=True)
    if done.returncode:
        # It names the file, which says nothing to whoever reads the table.
        reason = done.stderr.strip().replace(f"{path.parent}/", "")[-300:]
        raise RuntimeError(f"fails: {reason}")
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return report["jobs"][0]["job_runtime"] / 1000


def make_large(path: Path):
    path.mkdir()
    run(["dd", "if=/dev/urandom", f"of={path}/file", "bs=1M", "count=1024"])


def make_many(path: Path, made: Path):
    tree = made / ".many"
    shutil.rmtree(tree, ignore_errors=True)
    for number in range(FILES):
        folder = tree / f"{number // 100:03}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number:05}").write_text(f"file {number}\n" * (1 + number % 40))
    run(["tar", "-cf", path, "-C", tree, "."])
    shutil.rmtree(tree)


def make_project(path: Path, root: Path):
    """A repository of many files, and this project's own source."""
    many = path / "many"
    many.mkdir(parents=True)
    run(["tar", "-xf", path.parent / "many.tar", "-C", many])
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for words in (["init"], ["add", "."], [*identity, "commit", "-m", "all"]):
        run(["git", "-C", many, *words])
    run(["git", "clone", "--depth=1", f"file://{root}", path / "source"])
