"""Object files of the native build and the symbols in them."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / f"cp{sys.version_info.major}{sys.version_info.minor}"
TRACER = "native/tracer/libmematlas_trace.so"
CORE = "native/libmematlas_core.a"


class Reference(NamedTuple):
    """A relocation: `section` of `file` refers to `symbol`."""

    file: str
    section: str
    symbol: str


def objects(target: str, folder: str = "") -> list[Path]:
    """Return the object files of a target, or those of its sources in native/FOLDER."""
    found = sorted((BUILD / f"{target}.p").glob(f"{folder}_*.o" if folder else "*.o"))
    if not found:
        pytest.skip(f"no objects of {target} in {BUILD.name}: not an editable install")
    return found


def _run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def exported(library: str) -> set[str]:
    """Return the dynamic symbols that a shared library defines."""
    lines = _run("nm", "-D", "--defined-only", BUILD / library).splitlines()
    return {line.split()[-1].partition("@")[0] for line in lines}


def versions_needed(library: str | Path) -> dict[str, str]:
    """Return the versions of other libraries' symbols that a shared library needs, by symbol."""
    lines = _run("objdump", "-T", BUILD / library).splitlines()
    found = (
        re.search(r"\*UND\*\s+[0-9a-f]+\s+\(?(\w+_[\d.]+)\)?\s+(\w+)$", line) for line in lines
    )
    return {match[2]: match[1] for match in found if match}


@cache
def versions_defined(library: Path) -> dict[str, set[str]]:
    """Return the versions that a shared library has of each of its symbols."""
    found: dict[str, set[str]] = {}
    for line in _run("objdump", "-T", library).splitlines():
        match = re.search(r"\s[0-9a-f]{8,}\s+\(?(\w+_[\d.]+)\)?\s+(\w+)$", line)
        if match and "*UND*" not in line:
            found.setdefault(match[2], set()).add(match[1])
    return found


@cache
def _symbols(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Return the letter and name of each global symbol, by object file; nm reads all of a folder at once."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in _run("nm", "-g", "-A", *sorted(folder.glob("*.o"))).splitlines():
        path, _, symbol = line.rpartition(":")
        *_, letter, name = symbol.split()
        found.setdefault(Path(path).name, []).append((letter, name))
    return found


def defined(path: Path) -> set[str]:
    """Return the global symbols that an object file defines, weak ones apart."""
    rows = _symbols(path.parent).get(path.name, [])
    return {name for letter, name in rows if letter not in "UwWvV"}


def undefined(path: Path) -> set[str]:
    """Return the symbols that an object file needs from others."""
    rows = _symbols(path.parent).get(path.name, [])
    return {name for letter, name in rows if letter in "Uwv"}


def references(path: Path) -> list[Reference]:
    """Return the relocations of an object file, debug sections left out."""
    found = []
    section = ""
    for line in _run("objdump", "-r", path).splitlines():
        heading = re.match(r"RELOCATION RECORDS FOR \[(.+)\]:", line)
        if heading:
            section = heading[1]
        fields = line.split()
        if section.startswith(".debug") or len(fields) != 3 or fields[0] == "OFFSET":
            continue
        symbol = re.split(r"[-+]0x", fields[2])[0]
        found.append(Reference(path.name.removesuffix(".o"), section, symbol))
    return found
