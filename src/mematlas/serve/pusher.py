"""Pushes of a growing recording: at an interval, again after a failure, and a last time at the end."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mematlas.errors import MematlasError
from mematlas.present.printable import clean, shorten
from mematlas.serve.state import NotYetRecordedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.serve.state import ServedRecording, State

_MOST_S = 300.0  # between two attempts
_LAST_S = 5.0  # that the last push may take with its repetitions
_LAST_PAUSE_S = 0.5
CLOSE_S = 25.0  # until a push that hangs is left
_LONGEST = 200  # letters of an error that nobody foresaw


class PushError(Exception):
    """A push failed. `retry_s`: the wait that the collector asks for; `final`: the same again would fail as well."""

    def __init__(self, message: str, *, retry_s: float = 0.0, final: bool = False) -> None:
        """Store the message."""
        super().__init__(message)
        self.retry_s, self.final = retry_s, final


class Sender(Protocol):
    """Sends the figures of one reading to a collector.

    What could not be sent is part of the next push: sums go on, so nothing waits in memory.
    """

    def send(self, state: State) -> None:
        """Send the figures. Raises PushError."""
        ...


@dataclass(slots=True)
class Pushes:
    """How many pushes there were. `error`: of the last attempt, "" if it succeeded."""

    sent: int = 0
    failed: int = 0
    error: str = ""


class Pusher:
    """Pushes to one collector in a thread of its own. A failure is counted and said once, and ends nothing."""

    def __init__(
        self,
        recording: ServedRecording,
        sender: Sender,
        name: str,
        interval_s: float,
        say: Callable[[str], object],
    ) -> None:
        """Store the sender. `say` is called with lines for the user."""
        self.name, self.pushes = name, Pushes()
        self._recording, self._sender = recording, sender
        self._interval_s, self._say = interval_s, say
        self._stop = threading.Event()
        self._pushed = 0  # number of the reading
        self._in_turn = 0  # failures in turn
        self._asked_s = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to push."""
        self._thread.start()

    def end(self) -> None:
        """Push a last time, in the thread."""
        self._stop.set()

    def wait(self, timeout_s: float) -> None:
        """Wait for the last push."""
        self._thread.join(max(0.0, timeout_s))

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s()):
            self._push(fresh=False)
        # Nobody waits long at the end of a run for a collector that did not answer before.
        end = time.monotonic() + (0.0 if self._in_turn else _LAST_S)
        while not self._push(fresh=True) and time.monotonic() < end:
            time.sleep(_LAST_PAUSE_S)
        sent, failed = self.pushes.sent, self.pushes.failed
        text = f"pushed {sent} {'profile' if sent == 1 else 'profiles'} to {self.name}"
        if failed:
            text += f"; {failed} {'attempt' if failed == 1 else 'attempts'} failed"
        if self.pushes.error:
            text += f", the last one too: {self.pushes.error}"
        self._say(text)

    def _pause_s(self) -> float:
        """Return the time until the next attempt; after failures it grows, and no two programs keep step."""
        if not self._in_turn:
            return self._interval_s
        doubled = min(self._interval_s * 2.0 ** min(self._in_turn, 16), _MOST_S)
        longest = max(self._interval_s, doubled)
        return max(self._asked_s, longest * random.uniform(0.75, 1.0))

    def _push(self, *, fresh: bool) -> bool:
        """Push if there are new figures; return whether no further attempt is of use."""
        try:
            state = self._recording.read(fresh=fresh)
            if state.number == self._pushed:
                return True
            self._sender.send(state)
        except NotYetRecordedError:
            return True
        except PushError as error:
            self._has_failed(str(error), min(error.retry_s, _MOST_S))
            return error.final
        except MematlasError as error:  # the recording cannot be read
            self._has_failed(str(error), 0.0)
            return True
        except Exception as error:  # noqa: BLE001 - of a folder that goes, or of a package: nobody would push on
            self._has_failed(shorten(clean(f"{type(error).__name__}: {error}"), _LONGEST), 0.0)
            return True
        self._pushed = state.number
        if self._in_turn:
            self._say(f"pushing to {self.name} again")
        self.pushes.sent += 1
        self.pushes.error, self._in_turn = "", 0
        return True

    def _has_failed(self, error: str, asked_s: float) -> None:
        if not self._in_turn:
            self._say(f"cannot push to {self.name}: {error}; trying again")
        self.pushes.failed += 1
        self.pushes.error, self._asked_s = error, asked_s
        self._in_turn += 1
