"""What the serving process holds after the libraries were imported through it."""

from pathlib import Path

from inputs import FILES, IMPORT, Inputs
from measure import fuse_servers, resident, run
from peers import Peer, all_peers
from reading import QUIET, import_command, walk_command
from report import Row


def rows(inputs: Inputs, slotfs: Path, repetitions: int) -> list[Row]:
    del repetitions  # resident memory is read once per mount
    measured: dict[str, list[float] | str] = {}
    for peer in all_peers(slotfs):
        if not isinstance(peer, Peer) or peer.name.startswith("kernel"):
            continue
        measured[peer.name] = serving(peer, inputs)
        if peer.name == "slotfs":
            padded = Peer(
                "slotfs",
                [part.replace("{source}", str(inputs.package("rs", padded=True))) for part in peer.mount],
                peer.source,
                peer.program,
                peer.unmount,
            )
            measured["slotfs, archive 300 MB larger"] = serving(padded, inputs)
    row = Row(
        f"Memory of the serving process, {FILES} files, after `{IMPORT}` and a walk",
        "MiB",
        measured,
        "slotfs",
        "under 40 MiB, and not growing with the archive's size",
    )
    mine, larger = row.value("slotfs"), row.value("slotfs, archive 300 MB larger")
    if mine is not None and larger is not None:
        row.met = max(mine, larger) < 40 << 20 and larger < mine * 1.1
    return [row]


def serving(peer: Peer, inputs: Inputs) -> list[float] | str:
    """Resident bytes of the process that serves the mount, or why there is no number."""
    reason = peer.missing(inputs)
    if reason:
        return reason
    before = fuse_servers()
    try:
        with peer.mounted(inputs, inputs.home / "mounts" / "memory") as place:
            servers = fuse_servers() - before
            run(import_command(place), env=QUIET)
            run(walk_command(place, True), env=QUIET)
            return [float(sum(resident(server) for server in servers))] if servers else "no serving process found"
    except RuntimeError as error:
        return str(error)
