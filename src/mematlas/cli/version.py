"""Print the version of mematlas, or the versions of all that it depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas._version import __version__

if TYPE_CHECKING:
    import argparse

EXAMPLES = ("version", "version --all")
_DISTRIBUTIONS = ("numpy", "rich", "symbolic", "multi-demangle", "cffi", "textual", "pyarrow")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas version`."""
    parser.add_argument(
        "--all", action="store_true", help="print kernel, Python and library versions as well"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the version."""
    print(f"mematlas {__version__}")
    if arguments.all:
        import os
        import platform

        kernel = os.uname()
        print(f"kernel {kernel.release} {kernel.machine}")
        print(f"python {platform.python_version()}")
        print(" ".join(platform.libc_ver()))
        for name in _DISTRIBUTIONS:
            print(f"{name} {_installed(name)}")
    return 0


def _installed(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
