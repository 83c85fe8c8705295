"""The file of a recording that fails to begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from mematlas.tracing.output import begun_recording, published
from mematlas.tracing.settings import TraceSettings


def test_a_pending_recording_gets_its_name(tmp_path: Path) -> None:
    """The name appears at the end of the block."""
    file = tmp_path / "a.atlas"
    with published(str(file)) as pending:
        Path(pending).write_text("content")
        assert not file.exists()
    assert [each.name for each in tmp_path.iterdir()] == ["a.atlas"]


def test_a_recording_is_called_by_the_name_that_it_gets(tmp_path: Path) -> None:
    """Lines that tell how to open it are printed later."""
    file = tmp_path / "a.atlas"
    with begun_recording(str(file), ["x"], TraceSettings()) as writer:
        assert not file.exists()
        assert writer.name == str(file)
    writer.close()
    assert [each.name for each in tmp_path.iterdir()] == ["a.atlas"]


@pytest.mark.parametrize("written", [False, True])
def test_a_failed_recording_leaves_nothing(tmp_path: Path, written: bool) -> None:
    """Whether the file was created or not, and whatever was there before."""
    (tmp_path / "a.atlas").write_text("old")

    def fail() -> None:
        with published(str(tmp_path / "a.atlas")) as pending:
            if written:
                Path(pending).write_text("content")
            raise ProcessLookupError(3, "No such process")

    with pytest.raises(ProcessLookupError):
        fail()
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]
