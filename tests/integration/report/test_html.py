"""The HTML report: its modules in Node, and its size with very many stacks."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import reports
from mematlas.present.html import bundle

ASSETS = Path(bundle.__file__).parent / "assets"


@pytest.mark.slow
def test_the_page_of_a_hundred_thousand_stacks_fits() -> None:
    """The page of a very large service stays below 1.5 MB."""
    size = len(reports.page_of(reports.many_stacks()).encode())
    print(f"{size:,} bytes")
    assert size < 1_500_000


def test_the_modules_run_as_modules() -> None:
    """The modules are plain ES modules: Node runs the ones that need no page."""
    node = shutil.which("node")
    if not node:
        pytest.skip("node is not installed")
    program = f"""
        import {{ formatBytes, keepEnd }} from "{ASSETS}/format.js";
        import {{ makeTrie, sumsOf, startsOf, invert, matchedBytes }} from "{ASSETS}/trie.js";
        const frames = [{{kind: 3, tier: 1, rank: 0}}, {{kind: 0, tier: 0, rank: 0}},
          {{kind: 1, tier: 2, rank: 8}}, {{kind: 0, tier: 0, rank: 0}}];
        const trie = makeTrie(Uint16Array.of(0, 1, 2, 1, 2), Uint32Array.of(0, 1, 2, 3, 2),
          [Float64Array.of(0, 1, 20, 0, 300)], Float64Array.of(0, 0, 7, 0, 9));
        const up = invert(trie, frames);
        console.log(JSON.stringify([formatBytes(1536), keepEnd("abcdefgh", 5),
          keepEnd("shop.orders.Cache.add", 12),
          [...sumsOf(trie, 0)], [...startsOf(trie, 0)], [...sumsOf(up, 0)], [...up.frame], [...up.folded],
          matchedBytes(trie, 0, Uint8Array.of(0, 0, 1, 0), 0)]));
    """
    done = subprocess.run(
        [node, "--input-type=module", "-e", program], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [
        "1.50 KiB", "…efgh", "…Cache.add", [321, 21, 20, 300, 300], [0, 0, 0, 21, 21], [321, 300, 21], [0, 3, 1],
        [0, 9, 7], 320,
    ]  # fmt: skip
