"""Finding of control groups."""

from __future__ import annotations

import pytest

from mematlas import UsageError
from mematlas.tracing.members import find_cgroup


@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_not_the_root(path: str) -> None:
    """A variable of a script that is not set does not mean every process of the machine."""
    with pytest.raises(UsageError, match="is empty"):
        find_cgroup(path)
