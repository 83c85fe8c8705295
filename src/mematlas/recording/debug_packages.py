"""What gives names to functions of a stripped file: its debug package, or a debuginfod server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.recording import elf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mematlas.recording.model import Module

_TIMEOUT_S = 10.0
_MOST_FILES = 4
_NAME = re.compile(r"[\w.+-]+\Z")
_SERVERS = {
    "debian": "https://debuginfod.debian.net",
    "ubuntu": "https://debuginfod.ubuntu.com",
    "fedora": "https://debuginfod.fedoraproject.org",
    "centos": "https://debuginfod.centos.org",
    "arch": "https://debuginfod.archlinux.org",
    "opensuse": "https://debuginfod.opensuse.org",
}
_ANY_SERVER = "https://debuginfod.elfutils.org"


def describe_missing(modules: Iterable[Module]) -> str:
    """Return a sentence on how to name the functions of files without symbols; "" if there are none.

    Packages are named only for files that this machine has in the recorded build.
    """
    files = list({each.path: each for each in modules}.values())[:_MOST_FILES]
    if not files:
        return ""
    names = ", ".join(each.path.rpartition("/")[2] for each in files)
    ways = [way for way in (_install([each for each in files if _is_here(each)]), _server()) if way]
    ids = "" if ways else f" (build ID {files[0].build_id or 'none'})"
    how = " or ".join(ways) or "install its debug symbols"
    return f"functions of {names}{ids} have no names: {how}, and record again"


def _is_here(module: Module) -> bool:
    try:
        headers = elf.read(module.path)
    except OSError:
        return False
    return headers is not None and headers.build_id == module.build_id


def _install(modules: Sequence[Module]) -> str:
    """Return the command that installs the debug packages of some files; "" if it is not known."""
    if dpkg := shutil.which("dpkg-query"):
        names = _packages(modules, lambda path: [dpkg, "-S", path], _after_dpkg)
        return f"apt-get install {' '.join(f'{name}-dbgsym' for name in names)}" if names else ""
    if rpm := shutil.which("rpm"):
        names = _packages(
            modules, lambda path: [rpm, "-qf", "--queryformat", "%{NAME}", path], str.strip
        )
        return f"dnf debuginfo-install {' '.join(names)}" if names else ""
    return ""


def _packages(
    modules: Sequence[Module],
    command: Callable[[str], list[str]],
    parse: Callable[[str], str],
) -> list[str]:
    found: dict[str, None] = {}
    for module in modules:
        for path in _names_of(module.path):
            name = parse(_output(command(path)))
            if _NAME.match(name):
                found[name] = None
                break
    return list(found)


def _names_of(path: str) -> list[str]:
    """Return the names under which a package may own a file: /lib is /usr/lib since the merge."""
    real = str(Path(path).resolve())
    names = [path, real, path.removeprefix("/usr"), real.removeprefix("/usr")]
    return list(dict.fromkeys(names))


def _after_dpkg(output: str) -> str:
    return output.partition(":")[0].partition(",")[0].strip()


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _server() -> str:
    """Return the setting of the distribution's debuginfod server; "" if one is set already."""
    if os.environ.get("DEBUGINFOD_URLS"):
        return ""
    return f"set DEBUGINFOD_URLS={_server_of(_distribution())}"


def _server_of(names: Sequence[str]) -> str:
    return next((_SERVERS[name] for name in names if name in _SERVERS), _ANY_SERVER)


def _distribution() -> list[str]:
    """Return ID and ID_LIKE of os-release, most specific first."""
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    values = [fields.get(name, "").strip("\"'") for name in ("ID", "ID_LIKE")]
    return " ".join(values).split()
