"""Making packages: how large slots get and how fast, against tar and the compressors by themselves."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from engine_decoding import fresh, on
from engine_inputs import PROFILES, Packed
from measure import in_turn, run
from report import Row

# Packing hundreds of megabytes takes its time when the machine is slow.
PACKING = 120.0
COMPRESSORS = {"compatible": "gzip -6 -n", "fast": "zstd -q -3"}
"""What makes of a tar archive what each profile makes, at the level that is the profile's default."""


def size_rows(packed: Packed) -> list[Row]:
    result = []
    for profile, compressor in COMPRESSORS.items():
        packed.tree.image(profile)
        report = packed.report("tree", profile)
        pipe = named(compressor)
        measured: dict[str, list[float] | str] = {
            "slotfs": [float(report["slots"][0]["stored_bytes"])],
            pipe: [float(piped(packed, compressor))],
            "slotfs, the whole package with its index": [float(report["size"])],
            "the files": [float(packed.tree.image("tar").stat().st_size)],
        }
        if packed.tree.image("squashfs"):
            measured["squashfs, zstd, 128 KiB blocks"] = [float(packed.tree.image("squashfs").stat().st_size)]
            measured["erofs, lz4hc"] = [float(packed.tree.image("erofs").stat().st_size)]
        row = Row(f"Size of a packed slot, profile {profile}", "MB", measured, pipe, "within 5 %")
        ratio = row.ratio("slotfs")
        row.met = ratio is not None and ratio <= 1.05
        result.append(row)
    return result


def piped(packed: Packed, compressor: str) -> int:
    """Bytes that tar and a compressor make of the tree."""
    with fresh(packed, cold=False) as folder:
        run(shell(packed.tree.tree, compressor, folder / "piped"), PACKING)
        return (folder / "piped").stat().st_size


def named(compressor: str) -> str:
    """What a pipe is called in tables, where a bar would begin a column."""
    return f"tar into {compressor.replace(' -q', '').replace(' -n', '')}"


def shell(tree: Path, compressor: str, into: Path) -> list[str]:
    return ["sh", "-c", f"tar --sort=name -C '{tree}' -cf - . | {compressor} >'{into}'"]


def speed_rows(packed: Packed, repetitions: int) -> list[Row]:
    """On two cores; the tree is in memory, and what is written is on the disk at the end."""
    tree = packed.tree.tree
    result = []
    for profile, must in (
        ("fast", "within 1.2 of `tar` into `zstd -T2`"),
        ("compatible", "within 1.2 of `tar` into `pigz -p2`"),
    ):
        options = ["--profile", profile, "--level", str(PROFILES[profile]), "--key-seed", "bench"]
        contenders = {
            "slotfs": making(
                packed, lambda out, options=options: [packed.slotfs, "pack", tree, "--output", out, *options]
            )
        }
        pipes = {"fast": ["zstd -q -3 -T2"], "compatible": ["pigz -6 -n -p2", "gzip -6 -n"]}[profile]
        absent = {}
        for pipe in pipes:
            name = named(pipe)
            if shutil.which(pipe.split()[0]):
                contenders[name] = making(packed, lambda out, pipe=pipe: shell(tree, pipe, out))
            else:
                absent[name] = f"`{pipe.split()[0]}` is not installed"
        against = named(pipes[0])
        in_turn({"reading": lambda: run(["tar", "-C", tree, "-cf", packed.home / ".read", "."], PACKING)}, 1)
        (packed.home / ".read").unlink()
        row = Row(
            f"`slotfs pack` of {packed.tree.image('tar').stat().st_size / 1e6:.0f} MB, profile {profile}, two cores",
            "s",
            {**in_turn(contenders, repetitions), **absent},
            against,
            f"{must} at the same level",
        )
        ratio = row.ratio("slotfs")
        row.met = ratio is not None and ratio <= 1.2
        result.append(row)
    return result


def making(packed: Packed, command: Callable[[Path], list]) -> Callable[[], float]:
    def once() -> float:
        with fresh(packed, cold=False) as folder:
            os.sync()
            # `slotfs pack` syncs what it wrote, so the others have to as well.
            made = folder / "made"
            return run(on(2, command(made)), PACKING) + run(["sync", made], PACKING)

    return once
