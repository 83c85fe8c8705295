"""The examples for Prometheus, by Prometheus's own tool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples" / "prometheus"


@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "mematlas.rules.test.yml"),
        ("test", "rules", "agent.rules.test.yml"),
    ],
)
def test_promtool_accepts_the_examples(words: tuple[str, ...]) -> None:
    """The configuration is valid, and the rules fire on growth and not on what stays."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed: apt-get install prometheus")
    done = subprocess.run(
        ["promtool", *words], cwd=EXAMPLES, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
