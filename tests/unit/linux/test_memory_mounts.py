"""Which mounts are measured: those that are reached without waiting for a program or a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.linux import memory_mounts

if TYPE_CHECKING:
    import pytest

ROOT = "22 1 254:0 / / rw - ext4 /dev/vda rw"


def measured(
    monkeypatch: pytest.MonkeyPatch, *mounts: tuple[str, str], root: str = ROOT
) -> list[str]:
    """Return the mount points that are opened, of mounts given as path and type."""
    opened: list[str] = []
    monkeypatch.setattr(memory_mounts, "_size", lambda path, *_: opened.append(path))
    lines = [f"30 22 0:{25 + n} / {path} rw - {kind} x rw" for n, (path, kind) in enumerate(mounts)]
    memory_mounts._sizes("\n".join([root, *lines]), -1, memory_mounts.LOCAL)
    return opened


def test_nothing_is_looked_up_in_a_file_system_that_may_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """FUSE and servers on the way, on top, or as the root: such a mount is not opened."""
    shm = ("/dev/shm", "tmpfs")
    assert measured(monkeypatch, ("/dev", "devtmpfs"), shm) == ["/dev/shm"]
    assert measured(monkeypatch, ("/a", "fuse.x"), ("/a/b", "tmpfs"), shm) == ["/dev/shm"]
    assert measured(monkeypatch, ("/a", "nfs4"), ("/a/b/c", "tmpfs")) == []
    assert measured(monkeypatch, shm, ("/dev/shm", "fuse")) == []
    assert measured(monkeypatch, shm, root=ROOT.replace("ext4", "overlay")) == []
    assert measured(monkeypatch, shm, root="") == []
    assert measured(monkeypatch, ("/ab", "fuse"), ("/abc", "tmpfs")) == ["/abc"]
