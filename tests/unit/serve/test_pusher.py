"""Destinations, tokens, and what a pusher does with failures."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from mematlas.errors import UsageError
from mematlas.serve import publisher
from mematlas.serve.child import _read_lines
from mematlas.serve.destination import parse_destination, read_token
from mematlas.serve.publication import TOKEN, Publication
from mematlas.serve.pusher import Pusher, PushError
from mematlas.serve.state import NotYetRecordedError

if TYPE_CHECKING:
    from mematlas.serve.state import ServedRecording, State


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("otlp://host", "grpc://host:4317"),
        ("otlps://[::1]:9", "grpcs://[::1]:9"),
        ("otlp+https://host/prefix/", "https://host/prefix"),
        ("pyroscope+http://10.0.0.1:4040", "http://10.0.0.1:4040"),
        ("pyroscope+https://1234@host", "https://host"),
    ],
)
def test_destinations(text: str, url: str) -> None:
    """Scheme, place and path; gRPC has a port of its own."""
    found = parse_destination(text)
    assert found.url == url
    assert "1234" not in str(found)
    assert parse_destination(str(found)).url == url


@pytest.mark.parametrize(
    "text",
    [
        "", "host:4317", "http://host", "otlp://", "otlp://host/path", "otlp://host:1?x=1",
        "otlp://host:99999", "otlp://user@host", "pyroscope+http://u:secret@host", "ftp://host",
        "pyroscope+http://h\u00f6st", "otlp+http://host/\u00e4", "otlp+http://host/a b", "otlp+http://ho\nst",
    ],
)  # fmt: skip
def test_malformed_destinations(text: str) -> None:
    """Each is refused in one line, which does not repeat a password."""
    with pytest.raises(UsageError) as caught:
        parse_destination(text)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "token", "words"),
    [
        ("pyroscope+http://host:4040", "a", "clear text: give pyroscope[+]https://"),
        ("otlp://10.0.0.1", "a", "clear text: give otlps://"),
        ("pyroscope+https://user@host", "", "give the password"),
        ("otlps://host", "a b\n", "letters that no header may have"),
    ],
)
def test_tokens_that_are_refused(url: str, token: str, words: str) -> None:
    """A token goes to nobody in clear text, and into no header that it would break."""
    with pytest.raises(UsageError, match=words):
        read_token(parse_destination(url), {TOKEN: token})


@pytest.mark.parametrize(
    "url", ["otlps://host", "otlp://127.0.0.1:1", "otlp://[::1]", "pyroscope+http://localhost"]
)
def test_tokens_that_are_sent(url: str) -> None:
    """By TLS, or to this machine."""
    assert read_token(parse_destination(url), {TOKEN: " secret\n"}) == "secret"
    assert read_token(parse_destination(url), {}) == ""


def test_the_first_words_end_with_an_empty_line() -> None:
    """Another process may hold the other end of the pipe: a program forks in other threads."""
    reader, writer = os.pipe()
    try:
        os.write(writer, b"begun\nserving\n\n")
        assert _read_lines(reader) == ["begun", "serving"]
    finally:
        os.close(reader)
        os.close(writer)


class Readings:
    """A recording that has a new reading each time; none at first."""

    def __init__(self, number: int = -1) -> None:
        self.number = number

    def read(self, *, fresh: bool = False) -> State:
        """Return the next reading."""
        del fresh
        self.number += 1
        if not self.number:
            raise NotYetRecordedError
        return cast("State", Reading(self.number))


class Reading:
    """A reading with a number."""

    def __init__(self, number: int) -> None:
        self.number = number


class Sender:
    """A collector that fails as told, then takes everything; `sent` has the numbers of readings."""

    def __init__(self, *failures: Exception, want: int) -> None:
        self.failures, self.sent = list(failures), list[int]()
        self._want, self.done = want, threading.Event()

    def send(self, state: Any) -> None:
        """Take a reading, or fail."""
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(state.number)
        if len(self.sent) == self._want:
            self.done.set()


def pushed(sender: Sender) -> tuple[Pusher, list[str]]:
    """Push until the sender has what it wants, and close."""
    said: list[str] = []
    readings = cast("ServedRecording", Readings())
    pusher = Pusher(readings, sender, "there", 0.001, said.append)
    pusher.start()
    assert sender.done.wait(60)
    pusher.end()
    pusher.wait(60)
    return pusher, said


def test_failures_are_counted_and_said_once_in_turn() -> None:
    """Two failures, a success; the newest reading is sent, and what failed is not kept."""
    sender = Sender(PushError("full"), PushError("full", final=True), want=2)
    pusher, said = pushed(sender)
    assert pusher.pushes.failed == 2
    assert sender.sent == sorted(set(sender.sent))
    assert sender.sent[0] == 3
    assert said[:2] == ["cannot push to there: full; trying again", "pushing to there again"]
    count = len(sender.sent)
    assert said[2:] == [f"pushed {count} profiles to there; 2 attempts failed"]
    assert pusher.pushes.error == ""


def test_an_error_that_nobody_foresaw_ends_no_pushes() -> None:
    """The thread goes on, and the line says what it was."""
    pusher, said = pushed(Sender(FileNotFoundError(2, "gone"), want=1))
    assert said[0] == "cannot push to there: FileNotFoundError: [Errno 2] gone; trying again"
    assert pusher.pushes.failed == 1


def test_pauses_grow_and_have_a_bound() -> None:
    """After n failures about twice as long as after n - 1, five minutes at most; what the collector asks for holds."""
    pusher = Pusher(cast("ServedRecording", Readings()), Sender(want=1), "there", 10.0, str)
    pauses = []
    for _ in range(8):
        pusher._has_failed("full", 0.0)
        pauses.append(pusher._pause_s())
    assert 15 <= pauses[0] <= 20
    assert all(225 <= each <= 300 for each in pauses[5:])
    pusher._has_failed("full", 299.5)
    assert pusher._pause_s() >= 299.5


def test_a_last_push_waits_for_no_other_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """All begin at once: one that hangs would leave no time to the others."""
    taken = threading.Event()

    class Hanging:
        def send(self, _: object) -> None:
            assert taken.wait(20)

    class Taking:
        def send(self, _: object) -> None:
            taken.set()

    senders = iter((Hanging(), Taking()))
    monkeypatch.setattr(publisher, "_sender", lambda *_: next(senders))
    monkeypatch.setattr(publisher, "ServedRecording", lambda _: Readings(number=0))
    urls = ("pyroscope+http://127.0.0.1:1", "pyroscope+http://127.0.0.1:2")
    with publisher.Publisher(Publication("a.atlas", push=urls, push_s=3600)) as both:
        pass
    assert [each.pushes.sent for each in both.pushers] == [1, 1]
