"""A Python application, as somebody would write it, and its package, as `flavor pack` makes it."""

from pathlib import Path

from builders import Tools
from interpreter import prepare_home

PROJECT = """\
[project]
name = "{name}"
version = "0.3.1"
description = "an application with a few dependencies"
requires-python = ">=3.11"
dependencies = [{dependencies}]

[project.scripts]
{name} = "{name}.cli:main"

[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[tool.setuptools.packages.find]
where = ["src"]

[tool.flavor]
entry_point = "{name}.cli:main"

[tool.flavor.execution.runtime.env]
unset = ["DEMO_UNSET"]
pass = ["DEMO_PASS"]
set = {{ DEMO_SET = "yes" }}
map = {{ DEMO_OLD = "DEMO_NEW" }}
"""


def pack_application(
    tools: Tools,
    work: Path,
    output: Path,
    name: str,
    dependencies: list[str],
    program: str,
    launcher: str = "rs",
    try_download: bool = False,
):
    """Writes the project `name` under `work` and packs it to `output`."""
    project = work / name
    sources = project / "src" / name
    sources.mkdir(parents=True, exist_ok=True)
    listed = ", ".join(f'"{dependency}"' for dependency in dependencies)
    (project / "pyproject.toml").write_text(PROJECT.format(name=name, dependencies=listed))
    (sources / "__init__.py").touch()
    (sources / "cli.py").write_text(program)
    tools.pack(project, output, launcher, prepare_home(work / "home", try_download))
