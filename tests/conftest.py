"""What tests of many kinds share: built programs and traced runs."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import settings

from traced_runs import PROGRAMS, Traced, bare, trace

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build a test program with gcc, once a session."""
    folder = tmp_path_factory.mktemp("programs")
    built: dict[tuple[str, ...], Path] = {}

    def make(name: str, *flags: str) -> Path:
        key = (name, *flags)
        if key not in built:
            output = folder / f"{len(built)}" / name
            output.parent.mkdir()
            source = PROGRAMS / f"{name}.c"
            command = [
                "gcc",
                "-g",
                "-O2",
                *KEEP_FRAMES,
                *flags,
                str(source),
                "-o",
                str(output),
                "-pthread",
            ]
            subprocess.run(command, check=True)
            built[key] = output
        return built[key]

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
