"""Which module of the name symbolic is used."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mematlas.recording import symbolic_package

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
import sys
sys.path.insert(0, sys.argv[1])
if "imported" in sys.argv:
    import symbolic
from mematlas.recording import symbolic_package
print(symbolic_package.load(), sys.modules.get("symbolic") is None)
"""


@pytest.mark.parametrize("when", ["imported", "not yet"])
def test_a_module_of_the_program_with_that_name_is_left_alone(tmp_path: Path, when: str) -> None:
    """It is neither taken for the package, nor replaced: names of native code are missing, and that is said."""
    (tmp_path / "symbolic.py").write_text("own = True\n")
    done = subprocess.run(
        [sys.executable, "-c", CODE, tmp_path, when],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout.split(), done.stderr) == (["False", str(when != "imported")], "")


def test_the_package_is_found() -> None:
    """The one that is installed here."""
    assert symbolic_package.load()
    from symbolic import debuginfo

    assert debuginfo.Archive is not None
