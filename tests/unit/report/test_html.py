"""The HTML report as a file: complete, without network access, safe from hostile names."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reports
from mematlas.present.html import bundle
from mematlas.report.analyse.table import StackTable
from mematlas.report.html.diff import render_diff_html
from mematlas.report.html.trie import Trie, TrieBuilder, TrieSource
from mematlas.report.model.report import METRICS, Report
from mematlas.report.varints import lengths, varints

ASSETS = Path(bundle.__file__).parent / "assets"
CODES = [bundle.REPORT, bundle.DIFF, bundle.BENCH, bundle.PAGE_MAP]
ALL = ["python_service", "native_program", "unseen", "hostile"]
VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """Elements of a page; checks that they are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that the innermost element is closed."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect the text outside style and script."""
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text.append(data)


def unpacked(text: str) -> tuple[dict[str, Any], list[bytes]]:
    """Return the header and the columns of a page's payload."""
    found = re.search(r'id="payload">([^<]*)<', text)
    assert found
    raw = gzip.decompress(base64.b64decode(found[1]))
    length = int.from_bytes(raw[:4], "little")
    head: dict[str, Any] = json.loads(raw[4 : 4 + length])
    columns, offset = [], 4 + length
    for size in head["columns"]:
        columns.append(raw[offset : offset + size])
        offset += size
    assert offset == len(raw)
    return head, columns


def numbers(packed: bytes) -> list[int]:
    """Read varints, one byte at a time."""
    found, value, shift = [], 0, 0
    for byte in packed:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(value)
            value, shift = 0, 0
    return found


@pytest.mark.parametrize("name", ALL)
def test_every_page_is_well_formed(name: str) -> None:
    """Elements close in order, IDs are unique, labels name what exists."""
    page = Page(reports.page_of(getattr(reports, name)()))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    labels = {attrs["aria-labelledby"] for _, attrs in page.elements if "aria-labelledby" in attrs}
    assert labels <= set(ids)


@pytest.mark.parametrize("name", ALL)
def test_no_page_can_reach_the_network_or_run_anything_else(name: str) -> None:
    """No resource is loaded, no handler is inline, the policy allows one script and one style."""
    text = reports.page_of(getattr(reports, name)())
    page = Page(text)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 2
    assert tags.count("style") == 1
    assert not {"iframe", "img", "object", "embed", "base", "form"} & set(tags)
    for _, attrs in page.elements:
        assert "src" not in attrs
        assert "style" not in attrs
        assert not any(key.startswith("on") for key in attrs)
        assert (attrs.get("href") or "data:").startswith(("data:", "#"))
    policy = next(a["content"] or "" for _, a in page.elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_hostile_names_stay_text() -> None:
    """Hostile names are shown as text and can be encoded as UTF-8."""
    text = reports.page_of(reports.hostile())
    text.encode()
    page = Page(text)
    assert "alert(1)" in "".join(page.text)
    assert "\u202e" not in text
    assert max(len(piece) for piece in page.text) < 3000


def test_the_unseen_is_unknown() -> None:
    """Unknown values are shown as unknown, never as 0."""
    text = "".join(Page(reports.page_of(reports.unseen())).text)
    assert "Resident memory is unknown" in text
    assert "0 B" not in text


def test_leaks_are_told_with_their_stacks() -> None:
    """Likely leaks are expanded with their evidence; the others are collapsed."""
    page = Page(reports.page_of(reports.python_service(), reports.leaky()))
    text = "".join(page.text)
    assert "22.8 MiB ± 1.14 MiB grew to the end" in text
    assert "grew in 9 of 10 snapshots" in text
    assert "Caches, buffers, start-up" in text
    assert "leaks" in [attrs.get("id") for _, attrs in page.elements]


@pytest.mark.parametrize("which", ["account", "last"])
def test_the_account_adds_up(which: str) -> None:
    """The parts of each account sum to its resident set."""
    report = reports.python_service()
    text = reports.page_of(report)
    name = {"account": "peak", "last": "last"}[which]
    section = re.split(r'<div class="account" data-account="', text)
    chosen = next(part for part in section if part.startswith(name))
    sizes = [int(size) for size in re.findall(r'data-bytes="(\d+)"', chosen)]
    assert sum(sizes) == getattr(report, which).rss_bytes


@pytest.mark.parametrize("name", ["python_service", "native_program", "hostile"])
def test_the_payload_keeps_every_byte(name: str) -> None:
    """The columns of the payload sum to the stacks, in each metric."""
    report = getattr(reports, name)()
    head, columns = unpacked(reports.page_of(report))
    assert len(columns) == 2 + len(METRICS) + 1
    for metric, column in zip(METRICS, columns[2:-1], strict=True):
        values = numbers(column)
        assert len(values) == head["nodes"]
        assert sum(values) == sum(stack.metric(metric) for stack in report.stacks)


def paths(trie: Trie) -> dict[tuple[Any, ...], list[int]]:
    """Return each node's path from the root and its own values."""
    found: dict[tuple[Any, ...], list[int]] = {}
    path: list[Any] = []
    for depth, frame, own in zip(trie.depth.tolist(), trie.frame.tolist(), trie.own.T, strict=True):
        path[depth:] = [trie.frames[frame]]
        assert tuple(path) not in found
        found[tuple(path)] = own.tolist()
    return found


def tree(report: Report, fold: float) -> Trie:
    """Build the trie of a report's stacks."""
    source = TrieSource(StackTable.of(report.stacks), {})
    return TrieBuilder([source], len(METRICS), fold).build(fold)


def test_an_unfolded_trie_has_the_stacks_and_nothing_else() -> None:
    """The bytes of each stack are at the last node of its path."""
    report = reports.native_program()
    found = paths(tree(report, 0))
    for stack in report.stacks:
        own = found["all", *reversed(stack.frames)]
        assert own == [stack.metric(name) for name in METRICS]
    assert sum(any(own) for own in found.values()) == len(report.stacks)


def test_folding_moves_bytes_to_the_caller_and_loses_none() -> None:
    """Folded nodes are below the limit, and each kept subtree keeps its sum."""
    report = reports.many_stacks(2000)
    whole, folded = paths(tree(report, 0)), paths(tree(report, 1e-3))
    assert len(folded) < len(whole) / 2
    assert set(folded) <= set(whole)
    live = METRICS.index("live")

    def below(trie: dict[tuple[Any, ...], list[int]], path: tuple[Any, ...]) -> int:
        return sum(own[live] for other, own in trie.items() if other[: len(path)] == path)

    total = below(whole, ("all",))
    for path in list(folded)[:50]:
        assert below(folded, path) == below(whole, path)
    for path in list(whole)[:300]:
        assert path in folded or below(whole, path) < total * 1e-3


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_varints_read_back(values: list[int]) -> None:
    """Varints of 64-bit numbers decode to the same numbers."""
    column = np.array(values, dtype=np.uint64)
    assert numbers(varints(column)) == values
    assert lengths(column).tolist() == [
        len(varints(column[at : at + 1])) for at in range(len(column))
    ]


@pytest.mark.parametrize("code", CODES)
def test_the_modules_can_share_one_script(code: bundle.PageCode) -> None:
    """No two modules of a page define the same top-level name."""
    defined: list[str] = []
    for name in code.modules:
        text = (ASSETS / name).read_text(encoding="utf-8")
        defined += re.findall(
            r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", text, re.MULTILINE
        )
    assert len(defined) == len(set(defined))
    script = bundle.script(code)
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)


def test_no_asset_is_left_over() -> None:
    """Every module and style sheet is in a page."""
    used = {name for code in CODES for name in (*code.modules, *code.sheets)}
    assert {str(path.relative_to(ASSETS)) for path in ASSETS.rglob("*.*")} == used


def test_the_page_of_two_runs_has_the_stacks_of_both() -> None:
    """The bytes of each run are in its half of the rows; names cannot become markup."""
    diff = reports.two_runs()
    text = render_diff_html(diff)
    Page(text)
    assert "<script>alert" not in text
    head, columns = unpacked(text)
    sums = [sum(numbers(column)) for column in columns[2:-1]]
    expected = [
        sum(stack.metric(name) for stack in report.stacks)
        for report in diff.reports
        for name in METRICS
    ]
    assert sums == expected
    assert METRICS[head["by"]] == diff.by


def test_the_size_of_many_stacks_is_bounded() -> None:
    """Folding keeps the page of 5,000 stacks small; 100,000 are an integration test."""
    assert len(reports.page_of(reports.many_stacks(5000)).encode()) < 400_000
