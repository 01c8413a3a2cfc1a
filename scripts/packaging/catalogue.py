"""The list of test packages: what each holds, who builds it, and what it must look like when served.

A package is named after what is special in it. The tree in the index is computed from the sources and
from slotfs's own rules (tar slots at the root, later slots win), never by reading the package back.
"""

import posixpath
from dataclasses import dataclass

import entries
from contents import Source, describe_file


@dataclass
class Package:
    """One package to be built."""

    group: str
    name: str
    manifest: dict
    builder: str
    launcher: str
    tree: list[dict] | None = None
    """What the mounted package must hold; None where the source must be refused or has no fixed tree."""
    runs: bool = True
    """Whether slotfs must be able to run it."""
    file: str = ""

    def __post_init__(self):
        self.file = self.file or f"{self.group}-{self.name}.{self.builder}-{self.launcher}.psp"


def is_archive(operations: str) -> bool:
    return operations.startswith(("tar", "tgz")) or operations.endswith("tar")


def expected_tree(slots: list[dict], sources: dict[str, Source]) -> list[dict]:
    """Unites the slots as slotfs does: archives at the root, files at their target, later ones win."""
    tree = {}
    for entry in slots:
        source = sources[entry["source"]]
        if is_archive(entry["operations"]):
            tree.update({item["path"]: item for item in source.entries or []})
            continue
        path = posixpath.normpath(entry["target"].replace("{workenv}", ".").replace("{package_name}", "pkg"))
        digits = entry.get("permissions", "0600").lstrip("0")
        octal = bool(digits) and all(digit in "01234567" for digit in digits)
        # Set-id bits never reach a mount by default.
        tree[path] = describe_file(path, source.content, int(digits, 8) & 0o1777 if octal else 0o600)
    return sorted(tree.values(), key=lambda item: item["path"])


def catalogue(sources: dict[str, Source], full: bool) -> list[Package]:
    """All packages made by the native builders, in the order in which they are built."""
    packages: list[Package] = []

    def add(group, name, made, *makers, hostile=False, runs=True):
        tree = None if hostile else expected_tree(made["slots"], sources)
        if full:
            makers = sorted({*makers, "rs-rs", "go-go"} if runs and not hostile else makers)
        for maker in makers:
            builder, launcher = maker.split("-")
            packages.append(Package(group, name, made, builder, launcher, tree, runs))

    entries.add_chains(add)
    entries.add_slot_fields(add)
    entries.add_edges(add)
    entries.add_launches(add)
    return packages
