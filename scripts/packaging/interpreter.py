"""A home directory in which `flavor pack` finds a Python 3.11 to put into a package.

`flavor pack` lets uv fetch a Python distribution, and starts uv and pip with an emptied environment, so
every setting has to come from files under HOME. Where the distribution cannot be fetched, uv is offered a
copy of this machine's Python 3.11 in the place where it keeps those that it fetched itself. The user's own
home is never touched.
"""

import ast
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

CANDIDATES = ("/usr/bin/python3.11", "python3.11", sys.executable)
# Not part of what a fetched distribution has, or large and never imported by an application.
LEFT_OUT = {
    "site-packages",
    "dist-packages",
    "__pycache__",
    "test",
    "tests",
    "idlelib",
    "turtledemo",
    "tkinter",
    "EXTERNALLY-MANAGED",
    "sitecustomize.py",
}
DESCRIBE = (
    "import sys, sysconfig; print(sys.version_info[:3], sys._base_executable, sysconfig.get_path('stdlib', "
    "vars={'base': sys.base_prefix, 'installed_base': sys.base_prefix}), sep='\\n')"
)


def prepare_home(home: Path, try_download: bool) -> dict[str, str]:
    """Fills `home` and returns the variables with which to run `flavor pack`."""
    tools = Path(sys.executable).parent
    environment = {"HOME": str(home), "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"}
    copy_settings(home, tools / "uv")
    pythons = home / ".local/share/uv/python"
    if any(pythons.glob("cpython-3.11.*")):
        return environment
    if try_download and fetch(tools / "uv", home):
        return environment
    local = local_python()
    if local:
        offer_copy(*local, pythons)
    elif try_download or not fetch(tools / "uv", home):
        sys.exit(
            "no Python 3.11 on this machine, and uv could not fetch one: on Debian 12, `apt-get install python3-venv`"
        )
    return environment


def fetch(uv: Path, home: Path) -> bool:
    done = subprocess.run(
        [uv, "python", "install", "3.11"],
        env={**os.environ, "HOME": str(home)},
        timeout=300,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    if done.returncode:
        print("uv could not fetch a Python distribution; offering it a copy of this machine's", file=sys.stderr)
    return done.returncode == 0


def copy_settings(home: Path, uv: Path):
    """Writes what pip is told by its environment or configuration (a mirror, a certificate) into files."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    settings = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in ("global", ":env:"):
            settings[key] = ast.literal_eval(value)
    pip = home / ".config/pip/pip.conf"
    pip.parent.mkdir(parents=True, exist_ok=True)
    pip.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    configuration = home / ".config/uv/uv.toml"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    # The certificates of the system; the setting's name changed between versions of uv.
    for text in ("system-certs = true\n", "native-tls = true\n", ""):
        configuration.write_text(text)
        if (
            subprocess.run([uv, "python", "dir"], env={**os.environ, "HOME": str(home)}, capture_output=True).returncode
            == 0
        ):
            return


def local_python() -> tuple[str, Path, Path] | None:
    """Version, program and standard library of the first Python 3.11 found."""
    for candidate in CANDIDATES:
        path = shutil.which(candidate)
        found = path and subprocess.run([path, "-c", DESCRIBE], capture_output=True, text=True)
        if not found or found.returncode:
            continue
        version, program, library = found.stdout.splitlines()
        numbers = ast.literal_eval(version)
        if numbers[:2] == (3, 11):
            return ".".join(map(str, numbers)), Path(program).resolve(), Path(library)
    return None


def offer_copy(version: str, program: Path, library: Path, pythons: Path):
    """Copies an interpreter to where uv looks for those that it manages."""
    destination = pythons / f"cpython-{version}-linux-{platform.machine()}-gnu"
    unfinished = pythons / f".unfinished-{version}"
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "bin").mkdir(parents=True)
    shutil.copy2(program, unfinished / "bin/python3.11")
    for name in ("python3", "python"):
        (unfinished / "bin" / name).symlink_to("python3.11")
    copied = unfinished / "lib/python3.11"
    shutil.copytree(
        library, copied, ignore=lambda _, names: [n for n in names if n in LEFT_OUT or n.startswith("config-")]
    )
    (copied / "site-packages").mkdir()
    # Debian's Python installs under /usr/local unless told otherwise; a private one has only one place.
    scheme = copied / "sysconfig.py"
    text = scheme.read_text()
    if "prefix_scheme = 'posix_local'" in text:
        scheme.write_text(text.replace("prefix_scheme = 'posix_local'", "prefix_scheme = 'posix_prefix'"))
        (copied / "sitecustomize.py").write_text(
            "import os, site, sys\nsite.addsitedir(os.path.join(sys.prefix, 'lib', 'python3.11', 'site-packages'))\n"
        )
    unfinished.rename(destination)
