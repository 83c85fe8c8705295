"""The JSON schemas name the kinds that the data model has."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from mematlas.recording.model import Kind, PartKind
from mematlas.report.analyse.rss_growth import GROWING_PARTS
from mematlas.report.analyse.sums import OWNERS, OWNING
from mematlas.report.analyse.table import FAULT
from mematlas.report.model.leaks import PAGE_TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAMES = {"python", "native", "inlined"}
PARTS = set(map(str, PartKind))
BLOCKS = set(map(str, OWNING))
GROWN = {*map(str, GROWING_PARTS), PAGE_TABLES}
STACKS = {*map(str, OWNERS), str(Kind.TOUCHED), FAULT}


def kinds(node: Any) -> Iterator[frozenset[str]]:
    """Yield the enums of all properties named `kind`."""
    if isinstance(node, dict):
        enum = node.get("properties", {}).get("kind", {}).get("enum")
        if enum is not None:
            yield frozenset(enum)
        for each in node.values():
            yield from kinds(each)
    elif isinstance(node, list):
        for each in node:
            yield from kinds(each)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("leaks-1", [BLOCKS, FRAMES, GROWN]),
        ("window-1", [BLOCKS]),
        ("report-1", [FRAMES, PARTS, STACKS]),
    ],
)
def test_a_schema_allows_every_kind_that_occurs(name: str, expected: list[set[str]]) -> None:
    """A kind that is added to the model is added to the schemas of the commands that print such rows."""
    text = files("mematlas.present").joinpath("schemas", f"{name}.json").read_text("utf-8")
    found = set(kinds(json.loads(text)))
    assert found == set(map(frozenset, expected))


@pytest.mark.parametrize("name", ["diff", "doctor", "export", "packages", "tree"])
def test_no_other_schema_of_reports_has_kinds_of_memory(name: str) -> None:
    """An enum of kinds in another schema written by hand would have to be held against the model as well."""
    path = files("mematlas.present").joinpath("schemas", f"{name}-1.json")
    for enum in kinds(json.loads(path.read_text("utf-8"))):
        assert not enum & (STACKS | PARTS)
