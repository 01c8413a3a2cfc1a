"""The lazy engine: from a package never seen to warm reads, beside peers and the limit itself, part by part."""

import shutil
from collections.abc import Callable
from pathlib import Path

import engine_decoding
import engine_making
import engine_reading
import engine_scale
import engine_start
from engine_inputs import Packed
from inputs import Inputs
from report import Row

# The first one has the curves that the page shows; what nobody waits for comes last.
PARTS = ("start", "import", "foreign", "reads", "random", "size", "pack", "memory", "pass", "mounts", "large")


def measurements(inputs: Inputs, slotfs: Path, repetitions: int) -> dict[str, Callable[[], list[Row]]]:
    """What measures each part; nothing is made or measured before it is called."""
    packed = Packed(inputs, slotfs)
    # What a run that was killed has left: its mounts first, for what is in them is not to be removed.
    with engine_scale.unmounting(packed, packed.scratch):
        pass
    shutil.rmtree(packed.scratch, ignore_errors=True)
    return {
        "start": lambda: engine_start.rows(packed, repetitions),
        "import": lambda: engine_decoding.import_rows(packed, repetitions),
        "foreign": lambda: engine_decoding.foreign_rows(packed, repetitions),
        "pass": lambda: engine_decoding.pass_rows(packed, repetitions),
        "reads": lambda: engine_reading.warm_rows(packed, repetitions),
        "random": lambda: engine_reading.random_rows(packed, repetitions),
        "size": lambda: engine_making.size_rows(packed),
        "pack": lambda: engine_making.speed_rows(packed, repetitions),
        "memory": lambda: engine_scale.memory_rows(packed),
        "large": lambda: engine_scale.large_rows(packed, repetitions),
        "mounts": lambda: engine_scale.mount_rows(packed),
    }
