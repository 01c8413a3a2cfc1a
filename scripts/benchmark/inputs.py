"""What is measured on: one tree of 25,000 files with real libraries, and everything it is packed into."""

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

FILES = 25_000
LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn")
IMPORT = "import numpy, pandas, scipy.stats, sklearn"

# Notes the moment of its own first instruction, as nearly as a program can.
STAMP = """\
#include <stdio.h>
#include <time.h>
int main(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("%lld.%09ld\\n", (long long)now.tv_sec, now.tv_nsec);
    return 0;
}
"""


class Inputs:
    """Everything lies in one directory on the disk that is measured, and is made once."""

    def __init__(self, home: Path):
        self.home = home
        self.tree = home / "tree"
        self.stamp = home / "stamp"
        self.cache = home / "cache"
        home.mkdir(parents=True, exist_ok=True)
        self.once(self.stamp, self._make_stamp)
        self.once(self.tree, self._make_tree)

    def once(self, path: Path, make) -> Path:
        """Makes `path` under another name first: what has the name is complete."""
        if not path.exists():
            print(f"making {path.name}", file=sys.stderr)
            unfinished = path.with_name(f".unfinished-{path.name}")
            if unfinished.is_dir():
                shutil.rmtree(unfinished)
            unfinished.unlink(missing_ok=True)
            make(unfinished)
            unfinished.rename(path)
        return path

    def image(self, kind: str) -> Path | None:
        """The tree as one file of a kind, or None when it cannot be made here."""
        commands = {
            "tar": ["tar", "--sort=name", "-C", self.tree, "-cf", "{}", "."],
            "tar.gz": ["sh", "-c", f"gzip -6 -n <'{self.home}/tree.tar' >'{{}}'"],
            "squashfs": ["mksquashfs", self.tree, "{}", "-comp", "zstd", "-quiet", "-no-progress"],
            "erofs": ["mkfs.erofs", "-zlz4hc", "{}", self.tree],
        }
        if kind == "package":
            return self.package("rs")
        if kind == "tar.gz":
            self.image("tar")
        command = commands[kind]
        if not shutil.which(command[0]):
            return None
        return self.once(
            self.home / f"tree.{kind}", lambda path: quiet([str(c).replace("{}", str(path)) for c in command])
        )

    def package(self, launcher: str, padded: bool = False) -> Path:
        """The tree as a package of FlavorPack's builder; padded, with a second slot of 300 MB."""
        name = f"science{'-padded' if padded else ''}-{launcher}.psp"
        self.image("tar.gz")
        return self.once(self.home / name, lambda path: self._make_package(path, launcher, padded))

    def _make_package(self, path: Path, launcher: str, padded: bool):
        slots = [
            {"id": "tree", "source": "tree.tar.gz", "target": ".", "operations": "tgz", "lifecycle": "runtime"},
            {
                "id": "stamp",
                "source": "stamp",
                "target": "bin/stamp",
                "operations": "raw",
                "permissions": "0755",
                "lifecycle": "runtime",
            },
        ]
        if padded:
            self.once(self.home / "padding", self._make_padding)
            slots.append(
                {"id": "padding", "source": "padding", "target": "padding", "operations": "raw", "lifecycle": "runtime"}
            )
        manifest = {
            "package": {"name": "science", "version": "1.0.0"},
            "slots": slots,
            "execution": {"command": "{workenv}/bin/stamp"},
        }
        written = self.home / f"{path.name}.json"
        written.write_text(json.dumps(manifest))
        helpers = Path(importlib.util.find_spec("flavor").origin).parent / "helpers" / "bin"
        builder = next(helpers.glob("flavor-rs-builder*"))
        embedded = next(helpers.glob(f"flavor-{launcher}-launcher*"))
        quiet(
            [builder, "--manifest", written, "--output", path, "--launcher-bin", embedded, "--key-seed", "bench"],
            cwd=self.home,
            env={**os.environ, "FLAVOR_LOG_LEVEL": "error"},
        )

    def _make_padding(self, path: Path):
        generator = random.Random(1)
        with path.open("wb") as file:
            for _ in range(300):
                file.write(generator.randbytes(1 << 20))

    def _make_stamp(self, path: Path):
        source = self.home / "stamp.c"
        source.write_text(STAMP)
        quiet(["cc", "-O2", "-static", "-o", path, source])

    def _make_tree(self, path: Path):
        quiet(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--target",
                path,
                *LIBRARIES,
            ]
        )
        missing = FILES - sum(len(files) for _, _, files in os.walk(path))
        if missing < 0:
            raise RuntimeError(f"the libraries alone have more than {FILES} files")
        for number in range(missing):
            folder = path / "filler" / f"{number // 100:03}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"file-{number:05}.txt").write_text(f"file {number}\n" * (1 + number % 40))


def quiet(command: list, **options):
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, **options)
    if done.returncode:
        raise RuntimeError(
            f"exit code {done.returncode} from `{command[0]}`: {done.stderr.decode(errors='replace')[-500:]}"
        )
