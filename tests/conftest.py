"""What tests of many kinds share: built programs and traced runs."""

from __future__ import annotations

import compileall
import hashlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import settings

import applied_fixes
import lanes
import mematlas
from traced_runs import PROGRAMS, Traced, bare, trace

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# An editable install reads bytecode but writes none: each of a thousand starts of mematlas would
# compile a hundred modules.
if not os.environ.get("PYTEST_XDIST_WORKER"):
    compileall.compile_dir(Path(mematlas.__file__).parent, quiet=1)
# A shell starts the background commands of a script with SIGINT ignored, and programs inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is slow at times, which is no failure.
settings.register_profile("mematlas", deadline=None)
settings.load_profile("mematlas")

# Optimised, but what the tests look for by name stays a frame of its own.
KEEP_FRAMES = ("-fno-optimize-sibling-calls", "-fno-ipa-icf")


class Build(Protocol):
    """Builds tests/programs/NAME.c once per set of flags."""

    def __call__(self, name: str, *flags: str) -> Path:
        """Return the program's path."""


class Run(Protocol):
    """Runs a program traced."""

    def __call__(
        self,
        *command: str | Path,
        options: tuple[str, ...] = (),
        top: int = 1_000_000,
        **more: object,
    ) -> Traced:
        """Return the traced run."""


# First, so that the time limit of a test does not count the wait for its turn.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run a test beside those of other lanes, or alone if its mark asks for that."""
    folder = common_folder(item.config)
    hold = lanes.alone if item.get_closest_marker("machine") else lanes.among_others
    with hold(folder):
        return (yield)


def common_folder(config: pytest.Config) -> Path:
    """Return the folder of temporary files that the lanes of a run have in common."""
    factory: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]
    folder = factory.getbasetemp()
    return folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder


@pytest.fixture(scope="session")
def build(pytestconfig: pytest.Config) -> Build:
    """Build a test program with gcc, once a run of all lanes."""
    folder = common_folder(pytestconfig) / "programs"

    def make(name: str, *flags: str) -> Path:
        # A folder for each set of flags, because the program keeps its name.
        output = folder / hashlib.sha256("\0".join(flags).encode()).hexdigest()[:12] / name
        if not output.exists():
            output.parent.mkdir(parents=True, exist_ok=True)
            new = output.with_name(f"{name}.{os.getpid()}")
            options = ("-g", "-O2", *KEEP_FRAMES, *flags, "-pthread")
            subprocess.run(["gcc", *options, PROGRAMS / f"{name}.c", "-o", new], check=True)
            new.rename(output)  # another lane sees nothing or the whole program
        return output

    return make


@pytest.fixture
def traced(tmp_path: Path) -> Run:
    """Run a program traced, and hold what it shows of itself against a bare run."""

    def run(
        *command: str | Path, options: tuple[str, ...] = (), top: int = 1_000_000, **more: object
    ) -> Traced:
        result = trace(tmp_path / "run.atlas", command, *options, top=top, **more)  # type: ignore[arg-type]
        expected = bare(command, **more)  # type: ignore[arg-type]
        assert result.outcome == expected, result.stderr
        return result

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write the fixes of the doctor that a test has shown to work, where a file for them is named."""
    report = yield
    path = os.environ.get("MEMATLAS_SHOWN_FIXES")
    if path and call.when == "call" and report.passed:
        applied_fixes.write_shown(item, path)
    return report
