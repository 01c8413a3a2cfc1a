"""Makes the packages that the tests run, and an index of what each must look like when served.

Run by `scripts/packages` with the Python in which FlavorPack is installed.
"""

import argparse
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from application import pack_application
from builders import Tools, class_packages
from catalogue import Package, catalogue
from contents import all_sources
from damaged import damaged_copies

DEMO = """\
import os
import sys


def main():
    import attrs, click, idna
    print("demoapp", sys.version.split()[0], sys.prefix, sys.argv[1:], os.environ.get("DEMO_SET"))
    return 0
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--full", action="store_true", help="every runnable package with both real launchers")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    # The index is written last: a directory without one is unfinished, and made again.
    shutil.rmtree(out, ignore_errors=True)
    work = out / "work"
    work.mkdir(parents=True)
    sources = all_sources()
    for source in sources.values():
        (work / source.name).write_bytes(source.stored)

    tools = Tools(work)
    packages = catalogue(sources, arguments.full)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda package: tools.build(package, work, out), packages))
    packages += class_packages(tools, sources, work, out)
    packages += damaged_copies(out / "chain-raw.rs-stub.psp", out)
    application = Package("application", "demoapp", {"slots": []}, "py", "rs")
    pack_application(tools, work, out / application.file, "demoapp", ["attrs", "click", "idna"], DEMO)
    packages.append(application)

    shutil.rmtree(work)
    index = [describe(package, out) for package in packages]
    (out / "index.json").write_text(json.dumps({"packages": index}, indent=1) + "\n")
    total = sum(entry["bytes"] for entry in index)
    print(f"{len(index)} packages, {total / 1e6:.0f} MB", file=sys.stderr)


def describe(package: Package, out: Path) -> dict:
    return {
        "file": package.file,
        "group": package.group,
        "name": package.name,
        "builder": package.builder,
        "launcher": package.launcher,
        "runs": package.runs,
        "bytes": (out / package.file).stat().st_size,
        "tree": package.tree,
    }


if __name__ == "__main__":
    main()
