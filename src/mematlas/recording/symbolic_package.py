"""The package symbolic, which reads DWARF: the installed one, or the copy that a wheel of mematlas carries.

A wheel of symbolic takes 78 MB, of which 72 are symbols of its own library. The build strips the library
(native/symbolic/meson.build); the copy takes 5.6 MB and is no distribution that pip knows of.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

CARRIED = Path(__file__).parents[1] / "_carried"
MISSING = (
    "native functions have no names, since symbolic is not installed, or another module has this name: "
    "pip install 'mematlas[native]'"
)


def load() -> bool:
    """Make `import symbolic` work in this process. Return False if there is neither of the two, or it cannot be imported.

    An installed symbolic is preferred, so that a program that uses one keeps it.
    """
    if "symbolic" in sys.modules:
        return _reads_dwarf(sys.modules["symbolic"].__spec__)
    if found := find_spec("symbolic"):
        return _reads_dwarf(found)
    spec = PathFinder.find_spec("symbolic", [str(CARRIED)])
    if spec is None or spec.loader is None:
        return False
    module = sys.modules["symbolic"] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules["symbolic"]
        raise
    return True


def _reads_dwarf(spec: ModuleSpec | None) -> bool:
    """Return whether a module is the package, not one of the program that has the same name."""
    folders = (spec and spec.submodule_search_locations) or ()
    return any(Path(each, "debuginfo.py").exists() for each in folders)
