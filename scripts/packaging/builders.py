"""Runs FlavorPack's own builders, as one of its users would."""

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tarfile
from pathlib import Path

from catalogue import Package
from contents import Source, describe_file

# The chains that only the Python builder can make; the native ones know tar and gzip alone.
CLASS_CHAINS = (
    "raw",
    "gzip",
    "bzip2",
    "xz",
    "zstd",
    "tar",
    "tar.gz",
    "tar.bz2",
    "tar.xz",
    "tar.zst",
    "tar|gzip",
    "gzip|zstd",
    "xz|gzip",
)
QUIET = {**os.environ, "FLAVOR_LOG_LEVEL": "error", "FLAVOR_BUILDER_LOG_LEVEL": "error"}


class Tools:
    """The builders and launchers that come with the installed FlavorPack."""

    def __init__(self, work: Path):
        found = importlib.util.find_spec("flavor")
        if found is None or found.origin is None:
            sys.exit("FlavorPack is not installed in this Python: run `scripts/setup tests`")
        self.helpers = Path(found.origin).parent / "helpers" / "bin"
        self.flavor = Path(sys.executable).parent / "flavor"
        # Nineteen packages in twenty are only read: three megabytes of launcher in each would be waste.
        stub = work / "stub-launcher"
        stub.write_text('#!/bin/sh\necho "this package has no launcher: use slotfs run" >&2; exit 64\n')
        stub.chmod(0o755)
        self.launchers = {
            "stub": stub,
            "rs": self.helper("flavor-rs-launcher"),
            "go": self.helper("flavor-go-launcher"),
        }
        self.builders = {"rs": self.helper("flavor-rs-builder"), "go": self.helper("flavor-go-builder")}

    def helper(self, name: str) -> Path:
        for path in sorted(self.helpers.glob(f"{name}*")):
            if os.access(path, os.X_OK):
                return path
        sys.exit(f"FlavorPack has no {name} for {platform.machine()} in {self.helpers}")

    def build(self, package: Package, sources: Path, out: Path):
        """Builds one package with a native builder."""
        written = sources / f"{package.file}.json"
        written.write_text(json.dumps(package.manifest, indent=1))
        command = [
            self.builders[package.builder],
            "--manifest",
            written,
            "--output",
            out / package.file,
            "--launcher-bin",
            self.launchers[package.launcher],
            "--key-seed",
            f"seed-{package.builder}",
        ]
        run(command, cwd=sources)

    def pack(self, project: Path, output: Path, launcher: str, environment: dict[str, str], builder: str | None = None):
        """Builds an application's package with `flavor pack`."""
        command = [
            self.flavor,
            "pack",
            "--manifest",
            project / "pyproject.toml",
            "--output",
            output,
            "--launcher-bin",
            self.launchers[launcher],
            "--key-seed",
            "seed-pack",
        ]
        if builder:
            command += ["--builder-bin", self.builders[builder]]
        run(command, env={**QUIET, **environment})


def run(command: list, cwd: Path | None = None, env: dict | None = None):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env or QUIET,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        shown = " ".join(str(part) for part in command)
        sys.exit(f"{done.stdout[-2000:]}\nexit code {done.returncode} from: {shown}")


def class_packages(tools: Tools, sources: dict[str, Source], work: Path, out: Path) -> list[Package]:
    """Builds one package per chain through FlavorPack's builder class."""
    from flavor.psp.format_2025.pspf_builder import PSPFBuilder

    tree = work / "tree"
    with tarfile.open(work / "tree.tar") as archive:
        archive.extractall(tree)
    made = []
    for chain in CLASS_CHAINS:
        archive = chain.startswith("tar")
        data = tree if archive else work / "plain.txt"
        package = Package(
            "class",
            chain.replace("|", "-then-"),
            {
                "slots": [
                    {"id": "data", "operations": chain, "target": "data/content", "lifecycle": "runtime"},
                    {"id": "tail", "operations": "raw", "target": "tail.txt"},
                ]
            },
            "py",
            "stub",
        )
        built = (
            PSPFBuilder.create()
            .metadata(package={"name": "class", "version": "1.0.0"}, execution={"command": "/bin/true", "env": {}})
            .add_slot(
                id="data",
                data=data,
                operations=chain,
                target="data/content",
                purpose="data",
                lifecycle="runtime",
                permissions="0644",
            )
            .add_slot(id="tail", data=b"tail slot\n", operations="raw", target="tail.txt", permissions="0644")
            .with_options(launcher_bin=tools.launchers["stub"], page_aligned=chain != "raw", compression_level=6)
            .with_keys(seed="seed-py")
            .build(out / package.file)
        )
        if not built.success:
            sys.exit(f"{package.file}: {built.errors}")
        # The class keeps files and links only, so a directory is there without a mode of its own.
        content = (
            [entry for entry in sources["tree.tar"].entries if entry["kind"] != "directory"]
            if archive
            else [describe_file("data/content", sources["plain.txt"].content, 0o644)]
        )
        package.tree = sorted(
            [*content, describe_file("tail.txt", b"tail slot\n", 0o644)], key=lambda item: item["path"]
        )
        made.append(package)
    return made
