"""Packages that frames belong to, and sums by package."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.recording.ownership import OWN, RUNTIME, tier
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import Frame
    from mematlas.report.analyse.lines import LineStats


@dataclass(frozen=True, slots=True)
class PackageStats:
    """Sums of the lines of one package."""

    name: str
    bytes: dict[str, int]  # by metric
    variance: float  # of the bytes of the metric they are ranked by, squared; 0 where unknown
    lines: int  # with any of the metric that they are ranked by
    largest: LineStats  # the line with most of that metric


UNKNOWN = "unknown stack"
STANDARD_LIBRARY = "Python standard library"
_INSTALLED = re.compile(r"/(?:site|dist)-packages/([^/]+)|/node_modules/((?:@[^/]+/)?[^/]+)")
_SUFFIX = re.compile(r"(\.libs|\.(py|pyi?|pyx|abi3|cpython-[^.]*|pypy[^.]*)?(\.?so|py|pyx)?)$")
_STDLIB = re.compile(r"^<frozen |/lib(64)?/python3(\.\d+)?/")
_INTERPRETER = re.compile(r"(^|/)(libpython3[^/]*|python3?(\.\d+)?t?)$|(^|/)Python-3[^/]*/")


def package_of(frame: Frame, directory: str = "") -> str:
    """Return the package of a frame: a Python or Node.js package, a library, or the program's own code.

    Own Python code is named by its first folder, or its file, below `directory`.
    """
    for path in (frame.file or "", frame.module or ""):
        if found := _INSTALLED.search(path):
            return found[2] or _SUFFIX.sub("", found[1]) or found[1]
    if frame.kind == "python":
        return _python_package(frame.file or "", directory)
    if _INTERPRETER.search(frame.module or "") or _INTERPRETER.search(frame.file or ""):
        return "CPython"
    if _STDLIB.search(frame.module or ""):
        return STANDARD_LIBRARY
    if frame.module:
        return frame.module.rsplit("/", 1)[-1]
    return frame.file.rsplit("/", 1)[-1] if frame.file else frame.function or UNKNOWN


def _python_package(file: str, directory: str) -> str:
    if _STDLIB.search(file):
        return STANDARD_LIBRARY
    base = directory.rstrip("/") + "/"
    if len(base) > 1 and file.startswith(base):
        return file[len(base) :].partition("/")[0] or file
    return file.rsplit("/", 1)[-1] or UNKNOWN


def is_shown(frame: Frame) -> bool:
    """Return whether a call tree shows a frame: not those of the runtime and of the import system."""
    return tier(frame) != RUNTIME


def is_own(frame: Frame) -> bool:
    """Return whether a frame is of the program's own code."""
    return tier(frame) == OWN


def sum_packages(ranked: Sequence[LineStats], by: str, directory: str = "") -> list[PackageStats]:
    """Sum lines by package, those with most of a metric first. `ranked` are the lines by that metric."""
    found: dict[str, list[LineStats]] = {}
    for line in ranked:
        name = UNKNOWN if line.frame is None else package_of(line.frame, directory)
        found.setdefault(name, []).append(line)
    packages = [
        PackageStats(
            name=name,
            bytes={metric: sum(line.bytes[metric] for line in lines) for metric in METRICS},
            variance=sum(line.variance_of(by) for line in lines),
            lines=sum(line.bytes[by] > 0 for line in lines),
            largest=lines[0],
        )
        for name, lines in found.items()
    ]
    return sorted(packages, key=lambda each: -each.bytes[by])
