"""Parts of the working set: the idle bitmap, folio heads, the choice of method, and the notes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mematlas import _core
from mematlas.errors import UnsupportedError
from mematlas.linux import damon, idle_page, references
from mematlas.linux.damon import WorkingSetMethod
from mematlas.linux.pageflags import FrameFlag
from mematlas.linux.references import Usage, UsedMapping
from mematlas.observe.working_set.analyse import LIMITS, TLB, analyse_working_set

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = st.sets(st.integers(1, 200_000), min_size=1, max_size=200)


@settings(deadline=None)
@given(FRAMES, st.data())
def test_marks_are_one_bit_a_frame(
    tmp_path_factory: pytest.TempPathFactory, frames: set[int], data: st.DataObject
) -> None:
    """Only marked frames have their bit set; frames whose bit is cleared are used."""
    path = tmp_path_factory.mktemp("idle") / "bitmap"
    path.write_bytes(bytes(200_064 // 8))
    wanted = np.array(sorted(frames), np.uint64)
    descriptor = os.open(path, os.O_RDWR)
    try:
        idle_page.mark(descriptor, wanted)
        bits = np.unpackbits(np.fromfile(path, np.uint8), bitorder="little")
        assert np.flatnonzero(bits).tolist() == sorted(frames)
        assert idle_page.idle(descriptor, wanted).all()
        gone = data.draw(st.sets(st.sampled_from(sorted(frames))))
        bits[list(gone)] = 0
        np.packbits(bits, bitorder="little").tofile(path)
        kept = idle_page.idle(descriptor, wanted).tolist()
    finally:
        os.close(descriptor)
    assert [
        frame for frame, still in zip(sorted(frames), kept, strict=True) if not still
    ] == sorted(gone)


def test_tails_stand_for_their_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail is marked by its head, mapped or not; a single page is its own head."""
    monkeypatch.setattr(idle_page, "pmd_size", lambda: 512 * _core.PAGE)
    flags = np.zeros(2048, np.uint64)
    flags[1024] = FrameFlag.HEAD
    flags[1025:1536] = FrameFlag.TAIL
    flags[528] = FrameFlag.HEAD  # 64 KiB
    flags[529:544] = FrameFlag.TAIL
    flags.tofile(tmp_path / "kpageflags")
    frames = np.array([3, 1024, 1025, 1535, 530, 543, 544], np.uint64)
    descriptor = os.open(tmp_path / "kpageflags", os.O_RDONLY)
    heads = idle_page.heads_of(frames | np.uint64(1 << 63), flags[frames], descriptor)
    os.close(descriptor)
    assert heads.tolist() == [3, 1024, 1024, 1024, 528, 528, 544]


@pytest.mark.parametrize("size", [512, 2048, 8192])
def test_heads_of_many_folios_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A huge page has 512 frames of 4 KiB, 2,048 of 16 KiB and 8,192 of 64 KiB; heads are found in pieces."""
    monkeypatch.setattr(idle_page, "pmd_size", lambda: size * _core.PAGE)
    monkeypatch.setattr(idle_page, "_MOST_FLAGS", 3 * size)
    flags = np.full(8 * size, FrameFlag.TAIL, np.uint64)
    flags[::size] = FrameFlag.HEAD
    flags[2 * size : 3 * size] = 0
    flags.tofile(tmp_path / "kpageflags")
    frames = np.random.default_rng(1).permutation(8 * size).astype(np.uint64)
    descriptor = os.open(tmp_path / "kpageflags", os.O_RDONLY)
    heads = idle_page.heads_of(frames, flags[frames], descriptor)
    os.close(descriptor)
    single = frames // np.uint64(size) == 2
    assert (heads == np.where(single, frames, frames - frames % np.uint64(size))).all()


def test_the_first_that_works_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice names the unavailable methods before it; later methods are not tried."""
    tried: list[str] = []

    def trying(name: str, works: bool) -> None:
        def answer(_: str) -> WorkingSetMethod:
            tried.append(name)
            return WorkingSetMethod(name, works, "" if works else f"no {name}")

        monkeypatch.setitem(references._TRIES, name, answer)

    trying("idle", works=False)
    trying("referenced", works=True)
    trying("damon", works=True)
    assert references.choose() == ("referenced", "idle: no idle")
    assert tried == ["idle", "referenced"]
    assert references.choose("damon") == ("damon", "requested")
    with pytest.raises(UnsupportedError, match="no idle"):
        references.choose("idle")
    trying("referenced", works=False)
    trying("damon", works=False)
    with pytest.raises(UnsupportedError, match=r"no idle.*no referenced.*no damon"):
        references.choose()


def test_damon_in_use_is_not_touched(tmp_path: Path) -> None:
    """An existing kdamond makes DAMON unavailable, running or not; no file is written."""
    admin = tmp_path / damon.ADMIN
    assert damon.try_damon(str(tmp_path)).reason.startswith("not in this kernel")
    (admin / "0").mkdir(parents=True)
    (admin / "nr_kdamonds").write_text("1\n")
    (admin / "0/state").write_text("on\n")
    before = {path: path.stat().st_mtime_ns for path in admin.rglob("*")}
    method = damon.try_damon(str(tmp_path))
    assert (method.works, method.reason.partition(":")[0]) == (False, "in use")
    assert damon.is_running(str(tmp_path))
    assert before == {path: path.stat().st_mtime_ns for path in admin.rglob("*")}


def test_idle_tracking_needs_its_bitmap(tmp_path: Path) -> None:
    """Without the bitmap the reason names the build option."""
    assert "CONFIG_IDLE_PAGE_TRACKING" in idle_page.try_idle(str(tmp_path)).reason


def usage(method: str, *, flushed: bool) -> Usage:
    """Build the result of a measurement."""
    rows = (UsedMapping(0x1000, 0x3000, "a", 8192, 4096), UsedMapping(0x5000, 0x6000, "", 4096, 0))
    return Usage(
        method, 1.0, rows, unseen=4096 if method == "idle" else None, flushed=flushed, regions=7
    )


def test_every_method_tells_its_limits() -> None:
    """Notes: a lower bound without a flush, pages that could not be marked, the estimate of DAMON."""
    plain = analyse_working_set(1, usage("referenced", flushed=False), "x", damon=True)
    assert (plain.used, plain.rss, len(plain.mappings)) == (4096, 12288, 1)
    assert plain.notes[0] == TLB
    assert LIMITS in plain.notes
    assert "DAMON is running" in plain.notes[-1]
    exact = analyse_working_set(1, usage("idle", flushed=True), "x", damon=False)
    assert TLB not in exact.notes
    assert any("4.00 KiB on no LRU list" in note for note in exact.notes)
    guess = analyse_working_set(1, usage("damon", flushed=True), "x", damon=True)
    assert guess.estimate
    assert any("7 regions" in note for note in guess.notes)
