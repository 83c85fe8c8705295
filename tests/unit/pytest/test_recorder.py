"""The recorder of the pytest plugin, and the pipe to it."""

from __future__ import annotations

import io
import json
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mematlas.errors import MematlasError
from mematlas.pytest import recorder
from mematlas.pytest.measuring import Measuring
from mematlas.pytest.session import TestRecorder

if TYPE_CHECKING:
    from pathlib import Path


def answering(*answers: dict[str, Any]) -> tuple[TestRecorder, io.StringIO]:
    """Return a recorder whose process has written some answers, and what it is asked."""
    asked = io.StringIO()
    found = TestRecorder()
    process: Any = SimpleNamespace(
        stdin=asked, stdout=io.StringIO("".join(json.dumps(each) + "\n" for each in answers))
    )
    found._process = process
    return found, asked


def test_answers_that_nobody_waited_for_are_dropped() -> None:
    """A time limit may end a wait: the next command gets its own answer, not the one before it."""
    of_another = {"figures": {"peak_bytes": 9}, "path": None}
    found, asked = answering(
        {"number": 1, **of_another}, {"number": 2, "figures": {"peak_bytes": 1}, "path": "p"}
    )
    found._number = 1  # the command that was interrupted
    assert found.end("p", 5) == ({"peak_bytes": 1}, "p")
    assert json.loads(asked.getvalue()) == {"do": "end", "number": 2, "path": "p", "least": 5}
    with pytest.raises(MematlasError, match="has ended"):
        found.end()


def test_a_session_that_nobody_joined_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `mematlas run`, where no test can be measured, sessions do not add up."""
    open_now: set[object] = set()

    class Session:
        name = "a session"

        def __init__(self, *_: object) -> None:
            open_now.add(self)

        def close(self) -> None:
            open_now.remove(self)

    monkeypatch.setattr(recorder, "Session", Session)
    server = recorder.Server(os.getpid())
    for _ in range(3):
        server._open({"exact": True, "sample_bytes": 1})
        assert len(open_now) == 1
    server._close({})
    assert not open_now


def test_a_recording_that_could_not_be_written_is_dropped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After a full disk the next test begins anew."""

    class Full:
        is_closed = False

        def close_without_pages(self) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            self.is_closed = True

    full: Any = Full()
    monkeypatch.setattr(recorder, "open_recording", lambda *_: full)
    monkeypatch.setattr(recorder, "command_of", lambda _: [])
    monkeypatch.setattr(recorder, "ProcessRecorder", lambda *_: full)
    session = recorder.Session.__new__(recorder.Session)
    session._pid, session._index = os.getpid(), 0
    session._writer = session._recorder = session.path = None
    nothing: Any = None
    session._collector = session._settings = nothing
    with pytest.raises(OSError, match="No space"):
        session.write(str(tmp_path / "a.atlas"))
    assert full.is_closed
    assert session._writer is None
    assert session._recorder is None
    assert session.path is None


def test_a_forked_child_judges_nothing() -> None:
    """A child that leaves the test by an exception does not read the answers meant for its parent."""
    measuring = Measuring.__new__(Measuring)
    found = TestRecorder()
    found._pid = 1  # of the parent
    measuring._recorder = found
    item: Any = None
    measuring._end(item, ())
