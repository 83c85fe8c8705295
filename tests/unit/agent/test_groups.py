"""Memory cgroups of version 2 in a made-up tree: usage, room, forecast, containers, groups that go."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from mematlas.agent.oom import kills as kills_module
from mematlas.agent.oom.kills import Kills
from mematlas.agent.oom.report import charged_parts
from mematlas.agent.watch import groups as module
from mematlas.agent.watch.groups import Group, Groups
from mematlas.linux.cgroup import upwards

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTAINER = "ab" * 32
STAT = (
    "anon 60\nfile 30\nkernel 5\nsock 2\nshmem 10\ninactive_file 15\nactive_file 5\nfile_dirty 1\n"
)


def make(top: Path, path: str, current: int, limit: str = "max") -> Path:
    """Make a group."""
    folder = top / path
    folder.mkdir(parents=True)
    for name, text in (("current", str(current)), ("max", limit), ("stat", STAT), ("peak", "99")):
        (folder / f"memory.{name}").write_text(f"{text}\n")
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 4\noom 1\noom_kill 2\n")
    return folder


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Groups]:
    """Return groups of a tree with a service, and a pod with a container that has a limit."""
    monkeypatch.setattr(module, "_is_in_namespace", lambda: False)
    make(tmp_path, "system.slice", 100)
    make(tmp_path, f"kubepods/pod1/cri-containerd-{CONTAINER}.scope", 100, "200")
    found = Groups((2, str(tmp_path)))
    found.find(0.0)
    yield found
    found.close()


def test_groups_that_have_a_charge(groups: Groups) -> None:
    """Folders without figures are none; a container is named by its ID."""
    path = f"/kubepods/pod1/cri-containerd-{CONTAINER}.scope"
    assert sorted(groups.by_path) == [path, "/system.slice"]
    container = groups.by_path[path]
    assert container.container == CONTAINER
    assert groups.by_path["/system.slice"].container == ""
    assert (container.limit, container.usage, container.reclaimable) == (200, 100, 19)
    assert container.room == 200 - 81
    assert groups.by_path["/system.slice"].room is None
    assert container.level.events["oom_kill"] == 2
    assert [each for each in upwards(f"{path}/init") if each in groups.by_path] == [path]


def test_parts_add_up(groups: Groups) -> None:
    """The rest is a part, too."""
    parts = {kind: size for kind, _, size in charged_parts(groups.by_path["/system.slice"].level)}
    assert sum(parts.values()) == 100
    assert (parts["anonymous"], parts["shared"], parts["file"]) == (60, 10, 20)
    assert (parts["kernel"], parts["sockets"], parts["unaccounted"]) == (5, 2, 3)


def test_usage_and_forecast(groups: Groups) -> None:
    """A group that grows by one byte a second has its limit when its room is used up."""
    (container,) = [each for each in groups if each.limit]
    file = Path(container.directory, "memory.current")
    for second in range(30):
        file.write_text(f"{100 + second}\n")
        groups.read_usages(float(second))
    forecast = container.forecast()
    assert forecast
    assert round(forecast.slope, 6) == 1
    assert round(forecast.seconds) == 200 - (129 - 19)
    assert container.is_near()


def test_groups_far_from_their_limit_are_read_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 500 groups, those with half of their limit in use are read each second, the others every ten."""
    monkeypatch.setattr(module, "_is_in_namespace", lambda: False)
    for number in range(500):
        make(tmp_path, f"g{number}", 100 if number % 50 else 190, "200")
    reads: list[str] = []
    read = Group.read_usage

    def counted(self: Group, now: float) -> bool:
        reads.append(self.path)
        return read(self, now)

    monkeypatch.setattr(Group, "read_usage", counted)
    found = Groups((2, str(tmp_path)))
    found.find(0.0)
    for second in range(20):
        found.read_usages(float(second))
    found.close()
    assert len(reads) == 10 * 20 + 490 * 2


def test_cached_files_at_the_limit_are_not_near(groups: Groups) -> None:
    """Usage at the limit is usual where files are cached. What they take is read anew while there is time."""
    (container,) = [each for each in groups if each.limit]
    folder = Path(container.directory)
    (folder / "memory.current").write_text("199\n")
    (folder / "memory.stat").write_text("anon 60\nfile 130\ninactive_file 130\nactive_file 0\n")
    groups.read_usages(1.0, lambda: False)
    assert container.reclaimable == 130
    assert not container.is_near()
    (folder / "memory.stat").write_text("anon 170\nfile 20\ninactive_file 20\nactive_file 0\n")
    groups.read_usages(3.0, lambda: False)
    assert not container.is_near()
    groups.read_usages(4.0, lambda: True)
    assert container.is_near()


def test_a_tree_without_end_is_not_walked(
    tmp_path: Path, groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users may make groups, too."""
    monkeypatch.setattr(module, "_MOST_WALKED", 10)
    for number in range(40):
        (tmp_path / "system.slice" / f"user-{number}").mkdir()
    groups.find(1.0)
    assert len(list(groups._walk())) <= 11
    assert "/system.slice" in groups.by_path


def test_a_group_that_goes_is_forgotten(groups: Groups) -> None:
    """Neither a reading nor the next look fails."""
    (container,) = [each for each in groups if each.limit]
    for each in Path(container.directory).iterdir():
        each.unlink()
    groups.begin_turn()
    while groups.read_next(1.0):
        pass
    assert list(groups.by_path) == ["/system.slice"]
    Path(container.directory).rmdir()
    groups.find(2.0)
    assert list(groups.by_path) == ["/system.slice"]


def test_kills_in_a_group_that_was_made_since(
    tmp_path: Path, groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the log cannot be read: counters of old groups are compared, those of new ones count whole, each once."""
    machine = [0]
    monkeypatch.setattr(Kills, "read_machine", lambda _: machine[0])
    monkeypatch.setattr(kills_module, "_open", lambda _: -1)
    monkeypatch.setattr(kills_module, "KernelLog", lambda: SimpleNamespace(is_readable=False))
    kills = Kills()
    assert kills.look(groups, 1.0) == []
    machine[0] = 1
    make(tmp_path, "new", 1)
    (kill,) = kills.look(groups, 2.0)
    assert kill.victim_group == "/new"
    assert kills.look(groups, 3.0) == []
    machine[0] = 2
    (tmp_path / "system.slice" / "memory.events").write_text("oom_kill 3\n")
    assert [each.victim_group for each in kills.look(groups, 4.0)] == ["/system.slice"]
    machine[0] = 3
    (gone,) = kills.look(groups, 5.0)  # its group is gone
    assert (gone.victim_group, gone.record) == ("", None)
    assert kills.count == 3


def test_groups_are_bounded(
    tmp_path: Path, groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those nearer to the root come first; the others are counted."""
    monkeypatch.setattr(module, "MOST", 3)
    for number in range(5):
        make(tmp_path, f"n{number}", 1)
    groups.find(1.0)
    assert len(groups.by_path) <= 3
    assert groups.left_out > 0


def test_groups_are_named_from_our_own_in_a_namespace(groups: Groups) -> None:
    """The kernel says "/../../system.slice" there."""
    groups._own = "/kubepods/pod1"
    assert groups.absolute("/../../system.slice") == "/system.slice"
    assert groups.absolute("/") == "/kubepods/pod1"
