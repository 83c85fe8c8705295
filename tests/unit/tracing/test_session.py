"""Session directories: private, and removed at the end or by the next run."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from mematlas.tracing import session

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create sessions in a temporary directory only."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(session, "_SHARED_MEMORY", tmp_path)
    return tmp_path


NEVER_FITS = 1 << 62  # more bytes than any file system has: TMPDIR is used


def test_a_session_is_private_and_passing(base: Path) -> None:
    """Only its user can read a session directory, and it is removed at the end."""
    with session.session_directory(NEVER_FITS) as directory:
        assert directory.parent == base
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "17.1").write_bytes(b"x")
    assert not list(base.iterdir())


def test_what_a_killed_run_left_is_removed(base: Path) -> None:
    """A directory with a free lock is removed; one in use or just created stays."""
    with session.session_directory(NEVER_FITS) as used:
        left, young, old = (base / f"mematlas-{name}" for name in ("left", "young", "old"))
        for path in (left, young, old):
            path.mkdir()
        (left / "lock").touch()
        os.utime(old, (0, 0))
        with session.session_directory(NEVER_FITS) as directory:
            assert {*base.iterdir()} == {used, young, directory}


def test_links_are_never_followed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link with the name of a session is not followed when sessions are removed."""
    victim = tmp_path_factory.mktemp("victim")
    (victim / "lock").touch()
    (base / "mematlas-link").symlink_to(victim)
    with session.session_directory(NEVER_FITS):
        assert (victim / "lock").exists()
