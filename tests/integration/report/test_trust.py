"""The words of mematlas about programs with a known truth are right: one round of scripts/trust."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from trust.catalogue import read_cases
from trust.runs import build, run

if TYPE_CHECKING:
    from pathlib import Path

    from trust.catalogue import Case


@pytest.mark.parametrize("case", read_cases(), ids=lambda case: case.name)
def test_every_claim_is_right(case: Case, tmp_path: Path) -> None:
    """The first sentence, the top line and the verdict say the truth."""
    if case.root and os.geteuid() != 0:
        pytest.skip("needs root")
    judgements = run(case, build(case, tmp_path), tmp_path / "run")
    wrong = [f"{each.kind}: {each.reason}: {each.text}" for each in judgements if not each.right]
    assert judgements
    assert not wrong
