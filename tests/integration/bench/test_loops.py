"""Orders of access, prefetch and transpose, run for real, briefly."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

MEMATLAS = (sys.executable, "-m", "mematlas", "bench")


def measured(*arguments: str) -> dict[str, Any]:
    """Run a benchmark with little time and memory and return its section."""
    done = subprocess.run(
        [*MEMATLAS, *arguments, "--json", "--duration", "0.2s"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    answer = json.loads(done.stdout)
    assert answer["schema"] == "mematlas/bench/1"
    section: dict[str, Any] = answer["data"]["sections"][0]
    return section


def labels(section: dict[str, Any], name: str) -> set[Any]:
    """Return the values of a label."""
    return {figure["labels"].get(name) for figure in section["figures"]}


def test_orders_strides_look_ups_and_turns_are_there() -> None:
    """Every variant has a figure, and page sizes are proven."""
    found = measured("patterns", "--size", "8M")
    assert {"along rows", "down columns", "at random"} <= labels(found, "order")
    assert {8, 64, 4096} <= labels(found, "distance")
    found = measured("prefetch", "--size", "8M", "--pages", "4K")
    assert labels(found, "ahead") == {0, 1, 2, 4, 8, 16, 32, 64, 128, 512}  # 512: of words in order
    found = measured("transpose", "--size", "2M", "--pages", "4K")
    assert labels(found, "side") - {None} == {512}
    assert labels(found, "shape") - {None} == {"128 x 2048", "2048 x 128"}
    assert len(labels(found, "method")) == 5
