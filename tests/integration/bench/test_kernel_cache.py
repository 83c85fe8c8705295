"""The kept choices between kernels: what is believed, and what happens where nothing can be kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from mematlas._core.bench import kernels as core
from mematlas.bench import kernel_cache, kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TILES = 2


def choice(**changed: Any) -> core.KernelChoice:
    """Return a choice that a process of this build can make."""
    names = core.kernel_names(TILES)
    costs = {name: 1.0 + index for index, name in enumerate(names)}
    costs[names[3]] = 0.5
    made = core.KernelChoice(TILES, 13, 13, 15, 15, "huge", "base", costs)
    return dataclasses.replace(made, **changed)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Use a cache folder of the test's own, and leave no choice to other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_cache, "_loaded", False)
    core.clear_kernel_choices()
    yield
    core.clear_kernel_choices()


def write(**changed: Any) -> Path:
    """Write a file as an earlier process does; return its path."""
    key = kernel_cache.machine_key()
    path = kernel_cache.cache_path(key)
    kernel_cache.write(path, key, [choice(**changed)])
    return path


def test_what_was_measured_is_used_again() -> None:
    """A later process has the same choice, and says that it was measured earlier."""
    path = write()
    assert path.stat().st_mode & 0o777 == 0o600
    kernel_cache.load()
    assert kernel_cache.in_use() == [choice()]
    assert choice().kernel == core.kernel_names(TILES)[3]
    assert kernel_cache.file_in_use() == str(path)
    core.clear_kernel_choices()
    kernel_cache.load()
    assert kernel_cache.in_use() == []  # once in a process


def test_measuring_anew_reads_nothing() -> None:
    """--retune leaves out what earlier processes kept."""
    write()
    kernel_cache.measure_anew()
    kernel_cache.load()
    assert kernel_cache.in_use() == []


def edited(path: Path, change: Callable[[dict[str, Any]], None], *, signed: bool) -> None:
    """Change the content of a file, with or without its digest."""
    content = json.loads(path.read_text())
    change(content)
    if signed:
        body = {name: content[name] for name in ("format", "machine", "choices")}
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        content["digest"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(content))


FOREIGN: list[Callable[[dict[str, Any]], None]] = [
    lambda content: content["machine"].update(version="0.0.1"),
    lambda content: content["machine"].update(caches=[]),
    lambda content: content["machine"].update(cpus=[[["model name", "another"]]]),
    lambda content: content.update(format=2),
    lambda content: content.update(choices={}),
    lambda content: content["choices"].append(7),
    lambda content: content["choices"][0].pop("rows"),
    lambda content: content["choices"][0].update(rows="13"),
    lambda content: content["choices"][0].update(rows=True),
    lambda content: content["choices"][0].update(rows=65),
    lambda content: content["choices"][0].update(rows=-1),
    lambda content: content["choices"][0].update(work=10**30),
    lambda content: content["choices"][0].update(work=-1),
    lambda content: content["choices"][0].update(from_pages="1G"),
    lambda content: content["choices"][0].update(costs={}),
    lambda content: content["choices"][0].update(costs={"another kernel": 1.0}),
    lambda content: content["choices"][0]["costs"].update({core.kernel_names(TILES)[0]: -1.0}),
    lambda content: content["choices"][0]["costs"].update({core.kernel_names(TILES)[0]: "fast"}),
    lambda content: content["choices"][0]["costs"].update({core.kernel_names(TILES)[0]: 10**400}),
    lambda content: content["choices"][0]["costs"].update(
        {core.kernel_names(TILES)[0]: float("nan")}
    ),
]


@pytest.mark.parametrize("change", FOREIGN)
def test_a_file_that_cannot_be_of_this_machine_is_not_believed(
    change: Callable[[dict[str, Any]], None],
) -> None:
    """Another CPU, version or format, or values that no process of this build writes, even with a right digest."""
    edited(write(), change, signed=True)
    kernel_cache.load()
    assert kernel_cache.in_use() == []


def test_a_damaged_file_is_not_believed() -> None:
    """Cut at any place, or with one changed number, a file gives no choice."""
    path = write()
    whole = path.read_bytes()
    key = kernel_cache.machine_key()
    for length in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:length])
        assert kernel_cache.read(path, key) == []
    path.write_bytes(b"[" * 100_000)
    assert kernel_cache.read(path, key) == []
    path.write_bytes(bytes(2 << 20))
    assert kernel_cache.read(path, key) == []
    path.write_bytes(whole)
    assert kernel_cache.read(path, key) == [choice()]
    edited(path, lambda content: content["choices"][0].update(rows=12), signed=False)
    assert kernel_cache.read(path, key) == []


def test_what_others_could_write_is_not_believed(tmp_path: Path) -> None:
    """A file that the group or anybody may write, a link and a pipe are left alone."""
    path = write()
    key = kernel_cache.machine_key()
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        assert kernel_cache.read(path, key) == []
    path.chmod(0o600)
    moved = path.rename(tmp_path / "moved.json")
    path.symlink_to(moved)
    assert kernel_cache.read(path, key) == []
    path.unlink()
    os.mkfifo(path)
    assert kernel_cache.read(path, key) == []
    if os.geteuid() == 0:
        os.chown(moved, 65534, 65534)
        assert kernel_cache.read(moved, key) == []


def test_a_folder_that_cannot_be_written_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a folder to write to, or without a home, loading and saving do nothing."""
    (tmp_path / "cache").write_text("a file, no folder")
    monkeypatch.setattr(kernel_cache, "kernel_choices_made", lambda: 10**9)
    monkeypatch.setattr(kernel_cache, "kernel_choices", lambda: [choice(measured_here=True)])
    kernel_cache.save()
    kernel_cache.load()
    assert kernel_cache.file_in_use() is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "absent" / "home"))
    monkeypatch.setattr(kernel_cache, "kernel_choices_made", lambda: 10**9 + 1)
    kernel_cache.save()
    assert kernel_cache.file_in_use() is None
    assert not (tmp_path / "absent").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write in the home of another user")
@pytest.mark.parametrize("link", [False, True])
def test_root_leaves_nothing_in_the_home_of_a_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, link: bool
) -> None:
    """As by sudo, which keeps HOME: folders of root would keep the user from keeping anything."""
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    os.chown(home, 65534, 65534)
    if link:
        (home / ".cache").symlink_to(other)
        os.chown(home, 0, 0)
        os.lchown(home / ".cache", 65534, 65534)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(home))
    path = kernel_cache.cache_path(kernel_cache.machine_key())
    with pytest.raises(PermissionError):
        kernel_cache.write(path, kernel_cache.machine_key(), [choice()])
    assert os.listdir(home) == [".cache"] * link  # noqa: PTH208
    assert os.listdir(other) == []  # noqa: PTH208


def test_a_file_that_is_not_believed_is_not_named() -> None:
    """Nothing is kept in a file that this user does not read."""
    path = write()
    assert kernel_cache.file_in_use() == str(path)
    path.chmod(0o666)
    assert kernel_cache.file_in_use() is None


def test_saving_adds_to_what_others_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes keep the choices of both; the newer one of the same class stays."""
    path = write()
    small = choice(rows=5, measured_here=True)
    monkeypatch.setattr(kernel_cache, "kernel_choices_made", lambda: 10**9 + 2)
    monkeypatch.setattr(kernel_cache, "kernel_choices", lambda: [small, choice(columns=2)])
    kernel_cache.save()
    kept = kernel_cache.read(path, kernel_cache.machine_key())
    assert sorted(each.rows for each in kept) == [5, 13]  # not what was only added
    assert sorted(os.listdir(path.parent)) == [path.name]  # noqa: PTH208


def test_words_of_a_choice() -> None:
    """The view says what is done, on which arrays, and how far behind the next kernel is."""
    costs = {"quick": 2.0, "slow": 5.0, "slower": 6.0}
    made = choice(costs=costs, from_pages="huge", to_pages="huge")
    assert kernels.work_name(made) == "transpose in tiles"
    assert kernels.arrays(made) == (
        "4096 to 8191 x 4096 to 8191, rows n * 32.0 KiB and n * 32.0 KiB apart, huge pages"
    )
    assert made.kernel == "quick"
    assert kernels.next_best(made) == "slow, 2.50x"
    read = core.KernelChoice(16, 25, 0, 0, 0, "base", "unknown", {"one": 1.0})
    assert kernels.work_name(read) == "read"
    assert kernels.arrays(read) == "16777216 to 33554431, base pages"
    assert kernels.next_best(read) == "-"
