"""What goes into the slots of the test packages: always the same bytes, made here.

Every source knows the tree it stands for, so that a test can compare what slotfs serves with what
went in, and not with what some other reader made of it.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import random
import tarfile
from dataclasses import dataclass, field

import zstandard

FILE, DIRECTORY, SYMLINK, HARDLINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
MODIFIED = 1_700_000_000


@dataclass
class Source:
    """The bytes of one slot as stored, and what they hold once decoded."""

    name: str
    stored: bytes
    content: bytes
    entries: list[dict] | None = field(default=None)
    """The decoded tree, or None when the slot is a single file."""


def compress_gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


COMPRESSORS = {
    "gz": compress_gzip,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
}


def describe_file(path: str, content: bytes, mode: int) -> dict:
    return {
        "path": path,
        "kind": "file",
        "mode": mode,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def make_tar(entries, form=tarfile.USTAR_FORMAT) -> tuple[bytes, list[dict]]:
    """Packs (path, kind, content or link target, mode) and says what it should look like unpacked."""
    buffer, tree = io.BytesIO(), {}
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for path, kind, data, mode in entries:
            info = tarfile.TarInfo(path)
            info.mode, info.mtime, info.type = mode, MODIFIED, kind
            clean = path.removeprefix("./").rstrip("/")
            if kind == FILE:
                content = data if isinstance(data, bytes) else data.encode()
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
                tree[clean] = describe_file(clean, content, mode)
                continue
            info.linkname = data
            archive.addfile(info)
            if kind == SYMLINK:
                tree[clean] = {"path": clean, "kind": "symlink", "target": data}
            elif kind == HARDLINK:
                tree[clean] = {**tree[data], "path": clean, "same_as": data}
            elif clean:
                tree[clean] = {"path": clean, "kind": "directory", "mode": mode}
    return buffer.getvalue(), list(tree.values())


def application(rng: random.Random):
    """A small tree with what trees have: a program, many small files, a large one, odd modes."""
    blob = rng.randbytes(1 << 16) + b"\0" * (1 << 20)
    return [
        ("app", DIRECTORY, "", 0o755),
        ("app/main.sh", FILE, '#!/bin/sh\necho main ran: "$@"\n', 0o755),
        ("app/data", DIRECTORY, "", 0o755),
        *[(f"app/data/f{i:03}.txt", FILE, f"file {i}\n" * (1 + i * 7 % 90), 0o644) for i in range(200)],
        ("app/data/big.bin", FILE, blob, 0o600),
        ("app/empty", FILE, "", 0o640),
        ("app/empty-directory", DIRECTORY, "", 0o750),
        ("top.txt", FILE, "at the top\n", 0o444),
    ]


def archives(rng: random.Random) -> dict[str, tuple[bytes, list[dict]]]:
    deep = "n" * 60 + "/" + "m" * 120 + "/" + "k" * 120 + ".txt"
    return {
        "tree": make_tar(application(rng)),
        "second": make_tar(
            [
                ("app/data/f000.txt", FILE, "replaced by the later slot\n", 0o600),
                ("app/extra.txt", FILE, "extra\n", 0o644),
            ]
        ),
        "modes": make_tar(
            [
                ("closed", DIRECTORY, "", 0o555),
                ("closed/file", FILE, "1", 0o444),
                ("sticky", DIRECTORY, "", 0o1777),
                ("none", FILE, "", 0o000),
                ("world", FILE, "3", 0o666),
                ("run", FILE, "#!/bin/sh\n", 0o711),
            ]
        ),
        "names-pax": make_tar(
            [(deep, FILE, "deep\n", 0o644), ("uni-\u00e9\u4e2d.txt", FILE, "u\n", 0o644)], tarfile.PAX_FORMAT
        ),
        "names-gnu": make_tar([(deep, FILE, "deep\n", 0o644)], tarfile.GNU_FORMAT),
        "links": make_tar(
            [
                ("bin", DIRECTORY, "", 0o755),
                ("bin/tool", FILE, "#!/bin/sh\necho tool\n", 0o755),
                ("bin/alias", SYMLINK, "tool", 0o777),
                ("current", SYMLINK, "bin", 0o777),
                ("dangling", SYMLINK, "nowhere/at/all", 0o777),
                ("bin/same", HARDLINK, "bin/tool", 0o755),
            ]
        ),
        "dotslash": make_tar([("./", DIRECTORY, "", 0o755), ("./a", FILE, "1", 0o644)]),
        "twice": make_tar([("a", FILE, "first", 0o644), ("a", FILE, "second, which wins", 0o600)]),
        "empty": make_tar([]),
        "escape": make_tar([("ok", FILE, "1", 0o644), ("../escape", FILE, "x", 0o644)]),
    }


def all_sources() -> dict[str, Source]:
    """Every slot source by file name."""
    rng = random.Random(2025)
    plain = b"".join(b"line %06d of a plain text slot\n" % i for i in range(4000))
    sources = [
        Source("plain.txt", plain, plain),
        Source("plain.gz.gz", compress_gzip(compress_gzip(plain)), plain),
        Source("members.gz", compress_gzip(plain[:1000]) + compress_gzip(plain[1000:]), plain),
        Source("zeros.gz", compress_gzip(b"\0" * (2 << 20) + b"end"), b"\0" * (2 << 20) + b"end"),
        Source("empty", b"", b""),
        Source("empty.gz", compress_gzip(b""), b""),
        Source("one", b"x", b"x"),
        *[Source(f"plain.{ending}", compress(plain), plain) for ending, compress in COMPRESSORS.items()],
    ]
    random_bytes = rng.randbytes(1 << 20)
    sources.append(Source("random.bin", random_bytes, random_bytes))
    for name, (data, tree) in archives(rng).items():
        sources.append(Source(f"{name}.tar", data, data, tree))
        for ending, compress in COMPRESSORS.items():
            sources.append(Source(f"{name}.tar.{ending}", compress(data), data, tree))
    for name, text in PROGRAMS.items():
        sources.append(Source(name, text.encode(), text.encode()))
    return {source.name: source for source in sources}


PROGRAMS = {
    "show.sh": '#!/bin/sh\ncd "$FLAVOR_WORKENV" && find . -mindepth 1 | sort\n',
    # Prints what a program is given: arguments, directory, every variable, standard input's first line.
    "given.sh": "#!/bin/sh\n"
    'printf "argv0=%s\\n" "$0"\nfor a in "$@"; do printf "arg=[%s]\\n" "$a"; done\n'
    'printf "cwd=%s\\n" "$(pwd)"\nenv -0 | sort -z | tr "\\0" "\\n"\n'
    'if read -r line; then printf "stdin=[%s]\\n" "$line"; fi\nexit "${GIVEN_EXIT:-0}"\n',
    "setup.sh": '#!/bin/sh\n# $1 = file to append to, rest = arguments\nf=$1; shift\necho "setup: $*" >> "$f"\n',
    "config.ini": "[a]\nb=1\n",
}
