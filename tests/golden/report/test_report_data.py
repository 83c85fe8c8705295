"""Tests read reports as report_data makes them: equal to what the commands print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from report_data import leaks_data, report_data
from traced_runs import ALL, ask

RECORDINGS = sorted((Path(__file__).parents[2] / "data").glob("*.atlas"))


def plain(data: object) -> object:
    """Return data with the types that JSON has."""
    return json.loads(json.dumps(data))


@pytest.mark.parametrize("top", [1, ALL])
@pytest.mark.parametrize("file", RECORDINGS, ids=lambda path: path.stem)
def test_the_data_is_that_of_the_command(file: Path, top: int) -> None:
    """Each field of the JSON has the same value, for the first stacks and for all."""
    words = [str(file), "--json", "--top", str(top)]
    for by in ("peak", "allocated", "swapped"):
        assert plain(report_data(file, by, top)) == ask("report", *words, "--by", by)
    assert plain(leaks_data(file, top)) == ask("leaks", *words)
    if top == ALL:
        assert report_data(file, "peak", top)["stacks"]
