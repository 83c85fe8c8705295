"""What was built fits a wheel: the stable ABI of Python, glibc 2.28, and the libraries of every Linux.

scripts/wheels audits the wheels themselves: their compiler links against glibc 2.28, that of the tests against the
glibc of this machine.
"""

from __future__ import annotations

import ctypes
import json
import platform
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mematlas._native as native
from native_objects import versions_defined, versions_needed

FOLDER = Path(native.__file__).parent
OLDEST_GLIBC = (2, 28)  # of manylinux_2_28, the name of the wheels
EVERYWHERE = {
    *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"),
    *("libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"),
}
"""Libraries that a manylinux wheel may expect on the machine (PEP 600)."""
OF_HEADERS = re.compile(r"(f|l)?stat(64)?|fstatat(64)?|mknod(at)?|__isoc23_\w+")
"""Names that newer headers of glibc put in place of older ones: __fxstat64, __xmknod, strtol."""


def libraries() -> list[Path]:
    """Return the shared objects that a wheel consists of; those of C tests are beside them."""
    found = [path for path in sorted(FOLDER.rglob("*.so")) if "tests" not in path.parts]
    assert len(found) >= 3
    return found


def audit_abi(path: Path) -> subprocess.CompletedProcess[str]:
    """Run abi3audit on an extension."""
    command = [
        sys.executable,
        "-m",
        "abi3audit",
        "--strict",
        "--verbose",
        "--assume-minimum-abi3",
        "3.11",
    ]
    return subprocess.run(
        [*command, path], capture_output=True, text=True, timeout=120, check=False
    )


def compile_library(path: Path, source: str) -> None:
    """Build a shared object from a text in C."""
    command: list[str | Path] = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", path]
    subprocess.run(command, input=source, text=True, timeout=60, check=True)


def of_newer_glibc(path: Path) -> dict[str, str]:
    """Return the symbols, with their version, that no glibc up to OLDEST_GLIBC has in any version."""
    there = {
        symbol: versions
        for each in _c_libraries()
        for symbol, versions in versions_defined(each).items()
    }
    return {
        symbol: version
        for symbol, version in versions_needed(path).items()
        if _parse_glibc(version) > OLDEST_GLIBC
        and not OF_HEADERS.fullmatch(symbol)
        and all(_parse_glibc(each) > OLDEST_GLIBC for each in there.get(symbol, {version}))
    }


def _c_libraries() -> list[Path]:
    names = ("libc.so.6", "libm.so.6")
    loaded = [ctypes.CDLL(name) for name in names]  # kept, so that their files are mapped
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = {Path(line.split()[-1]) for line in lines if line.endswith(names)}
    assert len(paths) == len(loaded)
    return sorted(paths)


def _parse_glibc(version: str) -> tuple[int, ...]:
    """Parse a version such as GLIBC_2.34; those of other libraries are (), older than all."""
    match = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(part) for part in match.groups() if part) if match else ()


def test_the_extension_keeps_to_the_stable_abi() -> None:
    """abi3audit finds no symbol of a single Python version."""
    done = audit_abi(Path(native.__file__))
    assert done.returncode == 0, done.stderr
    assert native.__file__.endswith(".abi3.so")


def test_a_symbol_outside_the_stable_abi_is_found(tmp_path: Path) -> None:
    """The audit refuses an extension that calls a function of CPython's own."""
    path = tmp_path / "unstable.abi3.so"
    text = "int PyCode_Addr2Line(void *, int); int PyInit_unstable(void) { return PyCode_Addr2Line(0, 0); }"
    compile_library(path, text)
    done = audit_abi(path)
    assert done.returncode == 1
    assert "PyCode_Addr2Line" in done.stdout + done.stderr


@pytest.mark.parametrize("path", libraries(), ids=lambda path: path.name)
def test_libraries_need_no_newer_glibc(path: Path) -> None:
    """Each function of glibc that is called was there in 2.28, perhaps under an older version."""
    assert versions_needed(path)
    assert not of_newer_glibc(path)


def test_a_symbol_of_a_newer_glibc_is_found(tmp_path: Path) -> None:
    """A function that came after 2.28 is told, one that has only a newer version is not."""
    if "closefrom" not in versions_defined(_c_libraries()[0]):
        pytest.skip("the C library here is older than closefrom(), of glibc 2.34")
    path = tmp_path / "newer.so"
    text = "void closefrom(int); int pthread_detach(unsigned long); void f(void) { closefrom(pthread_detach(3)); }"
    compile_library(path, text)
    assert of_newer_glibc(path) == {"closefrom": "GLIBC_2.34"}


def test_auditwheel_takes_a_wheel_of_what_was_built(tmp_path: Path) -> None:
    """No library has to be carried, no instruction is newer than those of every processor of the kind."""
    tag = f"cp311-abi3-linux_{platform.machine()}"
    path = tmp_path / f"mematlas-0-{tag}.whl"
    texts = {
        "WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n",
        "METADATA": "Metadata-Version: 2.1\nName: mematlas\nVersion: 0\n",
        "RECORD": "".join(f"mematlas/{each.relative_to(FOLDER)},,\n" for each in libraries()),
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for library in libraries():
            wheel.write(library, f"mematlas/{library.relative_to(FOLDER)}")
        for name, text in texts.items():
            wheel.writestr(f"mematlas-0.dist-info/{name}", text)
    done = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", "--json", path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["overall_tag"].startswith("manylinux_2_"), found
    assert found["unsupported_isa"] is False
    assert set(found["versioned_symbols"]) <= EVERYWHERE


def test_libraries_need_what_every_linux_has() -> None:
    """No shared object expects a library that a wheel would have to carry, or a path of the build."""
    for path in libraries():
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
