"""The package that a frame's code is from: an installed package, a shared object, a folder of the program."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mematlas.present.printable import clean

if TYPE_CHECKING:
    from mematlas.recording.model import Frame

STANDARD_LIBRARY = "standard library"

_INSTALLED = re.compile(r"^.*/(?:site-packages|dist-packages|node_modules)/((?:@[^/]+/)?[^/]+)")
_STANDARD = re.compile(r"^<frozen |^.*/lib(?:64)?/python3[^/]*/")
_VERSION = re.compile(r"(\.(cpython|abi3|pypy)[^/]*)?\.so(\.\d+)*$")


def package_of(frame: Frame, directory: str = "") -> str:
    """Return the name of a frame's package, never empty. Folders are named relative to `directory`."""
    file, module = clean(frame.file or ""), clean(frame.module or "")
    for path in (file, module):
        if found := _INSTALLED.match(path):
            return _VERSION.sub("", found[1].removesuffix(".py"))
    if frame.kind == "python":
        return STANDARD_LIBRARY if _STANDARD.match(file) else _folder(file, directory)
    if module:
        return _VERSION.sub("", module.rsplit("/", 1)[-1]) or module
    return _folder(file, directory)


def _folder(file: str, directory: str) -> str:
    """Return the first folder of a path below `directory`; the file's name if it has none."""
    base = directory.rstrip("/") + "/"
    below = file[len(base) :] if len(base) > 1 and file.startswith(base) else ""
    if "/" in below:
        return below.split("/", 1)[0]
    return (below or file.rsplit("/", 1)[-1]) or "unknown package"
