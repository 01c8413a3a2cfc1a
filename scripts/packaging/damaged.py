"""Copies of one package, each with a single thing wrong with it: what a reader must refuse or find.

The layout is the format's: 8200 bytes at the end hold a mark, the index block of 8192 bytes and another mark;
numbers are little-endian; a slot descriptor has 64 bytes.
"""

import hashlib
import struct
import zlib
from pathlib import Path

from catalogue import Package

INDEX = 8196
INDEX_SIZE = 8192
DESCRIPTOR = 64
# Offsets in the index block.
CHECKSUM, PACKAGE_SIZE, TABLE, PUBLIC_KEY, METADATA_CHECKSUM, SIGNATURE, FINGERPRINT = 4, 8, 40, 64, 96, 128, 1376
# Offsets in a slot descriptor.
OFFSET, SIZE, OPERATIONS, DIGEST = 16, 24, 40, 48


class Copy:
    """Bytes that can be changed at a place, with the index's own checksum made to fit afterwards or not."""

    def __init__(self, data: bytes):
        self.data = bytearray(data)
        self.index = len(data) - INDEX
        self.metadata, self.metadata_size, table = struct.unpack_from("<QQQ", data, self.index + 24)
        # The second slot; the first is the program.
        self.slot = table + DESCRIPTOR
        self.stored, self.stored_size = struct.unpack_from("<QQ", data, self.slot + OFFSET)

    def flip(self, place: int, bits: int = 1) -> "Copy":
        self.data[place] ^= bits
        return self

    def number(self, place: int, value: int) -> "Copy":
        struct.pack_into("<Q", self.data, place, value)
        return self

    def fit_index(self) -> "Copy":
        start = self.index + CHECKSUM
        self.data[start : start + 4] = bytes(4)
        struct.pack_into("<I", self.data, start, zlib.adler32(bytes(self.data[self.index : self.index + INDEX_SIZE])))
        return self

    def fit_descriptor(self) -> "Copy":
        digest = hashlib.sha256(self.data[self.stored : self.stored + self.stored_size]).digest()
        self.data[self.slot + DIGEST : self.slot + DIGEST + 8] = digest[:8]
        return self


def damaged_copies(original: Path, out: Path) -> list[Package]:
    """Writes every copy as `bad-{what is wrong}.psp`."""
    data = original.read_bytes()
    plain = Copy(data)
    index, slot = plain.index, plain.slot

    def copy() -> Copy:
        return Copy(data)

    copies = {
        "magic-start": copy().flip(index - 4).data,
        "magic-end": copy().flip(len(data) - 1).data,
        "version": copy().flip(index).fit_index().data,
        "index-checksum": copy().flip(index + CHECKSUM).data,
        "index-reserved": copy().flip(index + 5000).data,
        "signature": copy().flip(index + SIGNATURE).fit_index().data,
        "public-key": copy().flip(index + PUBLIC_KEY).fit_index().data,
        "key-fingerprint": copy().flip(index + FINGERPRINT).fit_index().data,
        "package-size": copy().flip(index + PACKAGE_SIZE).fit_index().data,
        "metadata": copy().flip(plain.metadata + plain.metadata_size // 2).data,
        "metadata-checksum": copy().flip(index + METADATA_CHECKSUM).fit_index().data,
        "slot-data": copy().flip(plain.stored + plain.stored_size // 2).data,
        "slot-checksum": copy().flip(slot + DIGEST).data,
        # Every other reader accepts this one.
        "slot-data-and-descriptor": copy().flip(plain.stored + 1).fit_descriptor().data,
        "slot-offset": copy().flip(slot + OFFSET, 8).data,
        "slot-unknown-op": copy().flip(slot + OPERATIONS, 0x77).data,
        "slot-bzip2-op": copy().flip(slot + OPERATIONS, 0x13).data,
        "slot-size-huge": copy().number(slot + SIZE, 1 << 40).data,
        "slot-table-offset": copy().number(index + TABLE, 1 << 40).fit_index().data,
        "trailing-byte": data + b"x",
        "truncated-1": data[:-1],
        "truncated-half-trailer": data[:-4100],
        "truncated-no-trailer": data[:-8200],
    }
    packages = []
    for name, changed in copies.items():
        path = out / f"bad-{name}.psp"
        path.write_bytes(changed)
        path.chmod(0o755)
        packages.append(Package("bad", name, {"slots": []}, "rs", "stub", runs=False, file=path.name))
    return packages
