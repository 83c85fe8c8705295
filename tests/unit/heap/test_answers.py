"""Answers about heaps that are made up: what is unknown is not shown as a figure."""

from __future__ import annotations

import io
from dataclasses import fields

from rich.console import Console

from mematlas.heap.analyse.difference import compare
from mematlas.heap.analyse.paths import shorten
from mematlas.heap.model.answers import Change, Holder, PathRow, Summary, Totals, Why
from mematlas.heap.text.answers import render_difference, render_why

_MIB = 1 << 20


def _holder(name: str, retained: int, *held: Holder, rest_rows: int = 0) -> Holder:
    return Holder(name, 0, 0, retained, None, 1, "root", held=held, rest_rows=rest_rows)


def _summary(size: int, *holders: Holder) -> Summary:
    totals = Totals(**{**dict.fromkeys((each.name for each in fields(Totals)), 0), "size": size})
    return Summary(1, "program", 0.0, "stop", 0.0, 0.0, 4096, totals, holders, (), (), 0)


def test_a_path_that_a_look_may_have_left_out_is_unknown() -> None:
    """A row that is in one look only was nothing before if that look lists all rows there, else unknown."""
    before = _summary(
        10 * _MIB,
        _holder("app", 8 * _MIB, _holder("cache", 7 * _MIB), rest_rows=3),
        _holder("library", _MIB, _holder("table", _MIB)),
    )
    after = _summary(
        30 * _MIB,
        _holder("app", 26 * _MIB, _holder("cache", 7 * _MIB), _holder("log", 18 * _MIB)),
        _holder("library", 2 * _MIB, _holder("table", _MIB), _holder("names", _MIB)),
        _holder("new", 2 * _MIB),
    )
    rows = {row.name: row for row in compare(before, after).paths}
    assert rows["app \u203a log"] == Change("app \u203a log", None, 1, None, 18 * _MIB)
    assert rows["library \u203a names"] == Change("library \u203a names", 0, 1, 0, _MIB)
    assert rows["new"].size_before is None
    assert rows["app"].growth == 18 * _MIB
    assert next(iter(rows)) in {"app", "app \u203a log"}
    console = Console(file=io.StringIO(), width=100)
    render_difference(compare(before, after), top=12, console=console)
    assert "? " in console.file.getvalue()  # type: ignore[attr-defined]


def test_sampled_paths_are_called_an_estimate() -> None:
    """Figures of a part of the blocks are not shown as those of all."""
    console = Console(file=io.StringIO(), width=100)
    render_why(
        Why("Order", 300_000, _MIB, (PathRow(("app",), 300_000, _MIB),), 0, 100_000),
        console=console,
    )
    assert "100,000 of 300,000" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_path_through_a_ring_is_short() -> None:
    """Names that come again and again stand once; of many others the first and the last are listed."""
    ring = ["slab …", "magazine"] * 40
    assert shorten(["library", *ring, "text"]) == ("library", "slab …", "magazine …", "text")
    assert shorten(["a", "b", "a", "b", "c"]) == ("a", "b", "a", "b", "c")
    names = [f"type {number}" for number in range(40)]
    assert shorten(names) == (*names[:6], "28 more", *names[-6:])


def test_one_block_is_one_block() -> None:
    """A count of one has its noun in the singular."""
    console = Console(file=io.StringIO(), width=100)
    render_why(Why("Order", 1, 64, (PathRow(("app",), 1, 64),), 0, 1), console=console)
    assert "1 block, 64 B: Order" in console.file.getvalue()  # type: ignore[attr-defined]
