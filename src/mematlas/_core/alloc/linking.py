"""Compiler flags for C programs that link libmematlas.a, and where pkg-config finds them."""

from __future__ import annotations

from pathlib import Path

from mematlas import _native
from mematlas.errors import MematlasError


def compile_flags() -> list[str]:
    """Return the flags with which a C or C++ compiler links mematlas: header folder, library, -lm.

    MematlasError if this installation has no C interface.

    >>> from mematlas.memory import compile_flags
    >>> compile_flags()[-2:]
    ['-pthread', '-lm']
    """
    built = Path(_native.__file__).parent
    headers = (
        built / "include",
        Path(__file__).parents[4] / "native" / "include",
    )  # or a checkout's
    library = built / "libmematlas.a"
    for folder in headers:
        if (folder / "mematlas.h").exists() and library.exists():
            return [f"-I{folder}", str(library), "-pthread", "-lm"]
    message = f"this installation has no C interface: {library} or its header is missing"
    raise MematlasError(message)


def pkgconfig_folder() -> Path:
    """Return the folder with mematlas.pc, for PKG_CONFIG_PATH.

    MematlasError if mematlas runs from a source tree, which has no such file: compile_flags() works there.

    >>> from mematlas.memory import pkgconfig_folder
    >>> pkgconfig_folder().name  # doctest: +SKIP
    'pkgconfig'
    """
    folder = Path(_native.__file__).parent / "pkgconfig"
    if not (folder / "mematlas.pc").exists():
        message = f"{folder} has no mematlas.pc; use mematlas.memory.compile_flags()"
        raise MematlasError(message)
    return folder
