"""What was built fits a wheel: the stable ABI of Python, and the libraries of every Linux. scripts/wheels audits the wheels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mematlas._native as native

FOLDER = Path(native.__file__).parent
EVERYWHERE = {
    *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"),
    *("libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"),
}
"""Libraries that a manylinux wheel may expect on the machine (PEP 600)."""


def test_the_extension_keeps_to_the_stable_abi() -> None:
    """abi3audit finds no symbol of a single Python version."""
    pytest.importorskip("abi3audit")
    command = [sys.executable, "-m", "abi3audit", "--strict", "--assume-minimum-abi3", "3.11"]
    done = subprocess.run(
        [*command, native.__file__], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert native.__file__.endswith(".abi3.so")


def test_libraries_need_what_every_linux_has() -> None:
    """No shared object expects a library that a wheel would have to carry, or a path of the build."""
    found = sorted(FOLDER.rglob("*.so"))
    assert len(found) >= 3
    for path in found:
        dynamic = subprocess.run(
            ["readelf", "--dynamic", "--wide", path],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        needed = {
            line.partition("[")[2].rstrip("]")
            for line in dynamic.splitlines()
            if "(NEEDED)" in line
        }
        assert needed <= EVERYWHERE, path.name
        assert "RPATH" not in dynamic
        assert "RUNPATH" not in dynamic
