"""The account of a cgroup from made-up figures: version 2 parts, the OOM killer's choice, container names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mematlas.linux.cgroup import CgroupLevel
from mematlas.linux.cgroup_members import find_container
from mematlas.linux.cgroup_paths import is_machine
from mematlas.observe.cgroup_account.analyse import analyse_cgroup, find_victim
from mematlas.observe.cgroup_account.model import CgroupReading, ChargedFile, Member
from mematlas.observe.cgroup_account.topic import with_account
from mematlas.observe.machine.model import Topic
from mematlas.observe.machine.text import render_topic

MIB = 1 << 20
# Linux 6.1, a group with heap, files, tmpfs, pipes and TCP connections.
STAT = {
    "anon": 79_400_960,
    "file": 50_368_512,
    "shmem": 33_554_432,
    "kernel": 39_735_296,
    "kernel_stack": 3_440_640,
    "pagetables": 9_023_488,
    "sec_pagetables": 0,
    "percpu": 12_288,
    "vmalloc": 65_536,
    "slab": 3_394_560,
    "slab_reclaimable": 2_394_560,
    "slab_unreclaimable": 1_000_000,
    "sock": 120_926_208,
    "inactive_file": 10 * MIB,
    "active_file": 5 * MIB,
}


def level(current: int = 290_521_088, limit: int | None = None, **stat: int) -> CgroupLevel:
    """Return a group of version 2."""
    return CgroupLevel(
        path="/app", current=current, limit=limit, high=None, peak=None, swap=None, swap_limit=None,
        failures=None, stat=STAT | stat, events={}, kernel=(STAT | stat)["kernel"],
    )  # fmt: skip


def member(pid: int, anonymous: int, *, adjusted: int = 0) -> Member:
    """Return a process that holds anonymous memory alone."""
    return Member(pid, f"app{pid}", f"/bin/app{pid}", 1, anonymous, 0, anonymous, adjusted)


def reading(
    of: CgroupLevel, *members: Member, files: tuple[ChargedFile, ...] = ()
) -> CgroupReading:
    """Return what is read of a group that does not change."""
    return CgroupReading(
        of, of.current, of.current, members, 0, files, False, None, 16384, 512 << 10
    )


def test_all_of_version_2_is_accounted() -> None:
    """The parts are those of memory.stat; the rest is 88 KiB, a third of a thousandth."""
    account = analyse_cgroup(reading(level(), member(1, 79_400_960)))
    assert account is not None
    assert {part.kind: part.bytes for part in account.parts} == {
        "anonymous": 79_400_960,
        "shared": 33_554_432,
        "file": 50_368_512 - 33_554_432,
        "kernel": 39_735_296,
        "sockets": 120_926_208,
        "unaccounted": 90_112,
    }
    kernel = next(part for part in account.parts if part.kind == "kernel")
    named = {piece.name: piece.bytes for piece in kernel.pieces}
    assert sum(named.values()) == kernel.bytes
    assert named["pipes, socket buffers and other pages"] == 39_735_296 - (
        3_440_640 + 9_023_488 + 12_288 + 65_536 + 3_394_560
    )


@given(
    st.integers(0, 1 << 40), st.lists(st.integers(0, 1 << 36), max_size=8), st.integers(0, 1 << 40)
)
def test_parts_add_up_to_the_usage(usage: int, held: list[int], anonymous: int) -> None:
    """Whatever the processes say they hold, parts are the usage, and pieces are no more than their part."""
    members = [member(pid, size) for pid, size in enumerate(held)]
    account = analyse_cgroup(reading(level(usage, anon=anonymous), *members))
    assert account is not None
    assert sum(part.bytes for part in account.parts) == usage
    for part in account.parts:
        assert sum(piece.bytes for piece in part.pieces) <= max(part.bytes, 0)


def test_files_of_unknown_charge_are_no_pieces() -> None:
    """Where frames are hidden, cached pages of a file are not taken for pages of this group."""
    library = ChargedFile("/lib/libc.so", False, 2 * MIB, None, (1,))
    account = analyse_cgroup(reading(level(), files=(library,)))
    assert account is not None
    assert next(part for part in account.parts if part.kind == "file").pieces == ()


def test_what_is_hidden_is_not_called_nobodys() -> None:
    """Where a process denies its sizes or its files, the rest of a part has no name."""
    from dataclasses import replace

    denied = replace(member(1, 0), anonymous=None, shared=None)
    account = analyse_cgroup(reading(level(), member(2, MIB), denied))
    assert account is not None
    parts = {part.kind: [piece.name for piece in part.pieces] for part in account.parts}
    assert parts["anonymous"] == ["app2 (2)"]
    assert parts["file"] == parts["shared"] == []
    assert "anonymous memory of 1 processes: hidden, run as root" in account.notes
    known = analyse_cgroup(replace(reading(level(), member(2, MIB)), files_known=True))
    assert known is not None
    parts = {part.kind: [piece.name for piece in part.pieces] for part in known.parts}
    assert parts["anonymous"] == ["held by no process of the group", "app2 (2)"]
    assert parts["file"] == ["files that no process of the group has open"]


def test_memory_of_moved_processes_is_not_divided() -> None:
    """Of two that hold 100 MiB each, where 100 are charged, it is unknown whose those are; a little more is noise."""
    group, both = level(anon=100 * MIB), (member(1, 100 * MIB), member(2, 100 * MIB))
    account = analyse_cgroup(reading(group, *both))
    assert account is not None
    assert account.parts[0].pieces == ()
    assert any("100 MiB of anonymous memory more than is" in each for each in account.notes)
    near = analyse_cgroup(reading(group, member(1, 60 * MIB), member(2, 40 * MIB + 4096)))
    assert near is not None
    assert [each.bytes >> 20 for each in near.parts[0].pieces] == [59, 40]


def test_the_root_of_a_container_is_not_the_machine(tmp_path: Path) -> None:
    """A cgroup namespace calls the group of the container "/"; the kernel numbers the real root 1."""
    from dataclasses import replace

    container = replace(level(), path="/", directory=str(tmp_path))
    assert not is_machine(container)
    machine = replace(level(), path="/", directory="/sys/fs/cgroup")
    assert is_machine(machine) is (Path("/sys/fs/cgroup").stat().st_ino == 1)
    assert not is_machine(replace(machine, path="/app"))


def test_the_oom_killer_weighs_the_adjustment() -> None:
    """oom_score_adj moves by thousandths of the limit; -1000 protects."""
    small, large = member(1, 10 * MIB, adjusted=500), member(2, 50 * MIB)
    spared = member(3, 90 * MIB, adjusted=-1000)
    assert find_victim([small, large, spared], 100 * MIB) == small
    assert find_victim([small, large, spared], 50 * MIB) == large
    assert find_victim([spared], 100 * MIB) is None


@pytest.mark.parametrize(
    ("version", "allowed", "most"),
    [(2, None, 150), (2, 20, 120), (2, 0, 100), (1, 130, 130), (1, 100, 100), (1, None, 150)],
)
def test_the_oom_killer_weighs_with_swap(version: int, allowed: int | None, most: int) -> None:
    """oom_score_adj counts thousandths of memory and swap together; version 1 limits their sum."""
    from dataclasses import replace

    of = replace(level(limit=100 * MIB), version=version, kernel=0, stat=STAT | {"total_rss": 0})
    of = replace(of, swap_limit=None if allowed is None else allowed * MIB)
    adjusted, plain = member(1, 0, adjusted=500), member(2, most * MIB // 2)
    for size, expected in ((plain.counted - 4096, adjusted), (plain.counted + 4096, plain)):
        rival = replace(plain, counted=size)
        found = analyse_cgroup(replace(reading(of, adjusted, rival), swap_bytes=50 * MIB))
        assert found is not None
        assert found.victim is not None
        assert found.victim.pid == expected.pid


def test_unknown_usage_is_no_account() -> None:
    """Without memory.stat nothing is called unaccounted: the account is unknown, and that is said."""
    from dataclasses import replace

    assert analyse_cgroup(reading(replace(level(), stat={}))) is None
    topic = with_account(Topic("cgroup", (), (), ()), None)
    assert topic.notes == ("the account of the group is unknown: its memory.stat cannot be read",)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_bar_and_the_parts_are_drawn(width: int) -> None:
    """Each part has a line with its size and share, at any width."""
    account = analyse_cgroup(reading(level(limit=512 * MIB), member(1, 79_400_960)))
    topic = with_account(Topic("cgroup", (), (), ()), account)
    console = Console(width=width, force_terminal=True, no_color=True, record=True)
    with console.capture() as shown:
        render_topic(topic, console=console)
    text = shown.get()
    assert "network buffers" in text
    assert "41.6 %" in text
    assert "app1 (1)" in text
    assert "OOM killer would end app1 (1)" in " ".join(text.split())


ID = "3f29b1c0a7de5566778899aabbccddeeff00112233445566778899aabbccddee"


@pytest.mark.parametrize(
    "path",
    [
        f"docker/{ID}",
        f"system.slice/docker-{ID}.scope",
        f"kubepods.slice/kubepods-pod12.slice/cri-containerd-{ID}.scope",
        f"kubepods/burstable/pod1/{ID}",
        f"machine.slice/libpod-{ID}.scope/container",
    ],
)
def test_groups_of_container_engines_are_found(tmp_path: Path, path: str) -> None:
    """The ID is found in the name that each engine gives; a group inside is not a second one."""
    Path(tmp_path, path, "init").mkdir(parents=True)
    expected = "/" + path.removesuffix("/container")
    assert find_container(ID[:12], str(tmp_path)) == [expected]
    assert find_container(ID, str(tmp_path)) == [expected]
    assert find_container("3f29", str(tmp_path)) == []  # too short to be sure of
    assert find_container(ID[:12].replace("3", "4"), str(tmp_path)) == []


def test_two_groups_of_one_name_are_both_told(tmp_path: Path) -> None:
    """The caller decides."""
    for name in ("lxc.payload.web", "machine-web.scope"):
        (tmp_path / name).mkdir()
    assert sorted(find_container("web", str(tmp_path))) == [
        "/lxc.payload.web",
        "/machine-web.scope",
    ]
