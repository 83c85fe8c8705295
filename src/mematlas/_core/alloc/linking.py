"""Where the C interface is, for programs that link it."""

from __future__ import annotations

from pathlib import Path

from mematlas import _native
from mematlas.errors import MematlasError


def compile_flags() -> list[str]:
    """Give what a C or C++ compiler needs: the header's folder, the library, and what it needs."""
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
