"""Paths without the folder of the program, of site-packages or of the standard library."""

from __future__ import annotations

import re

from mematlas.present.printable import clean

_LIBRARY_ROOTS = re.compile(
    r"^.*/(?:site|dist)-packages/|^.*/lib(?:64)?/python3[^/]*/|^.*/Python-3\.[^/]*/"
)


def short_path(path: str, directory: str = "") -> str:
    """Return a path relative to `directory`, site-packages or the standard library, if below one."""
    path = clean(path)
    base = directory.rstrip("/") + "/"
    if len(base) > 1 and path.startswith(base) and not _LIBRARY_ROOTS.match(path[len(base) - 1 :]):
        return path[len(base) :]
    return _LIBRARY_ROOTS.sub("", path)
