"""The process that serves and pushes a recording while another one writes it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError, UnsupportedError
from mematlas.serve.end_signals import end_signals
from mematlas.serve.publication import TOKEN, Publication
from mematlas.tracing.child import inherited_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mematlas.serve.publisher import Publisher

_START_S, _END_S = 60, 30  # that it may take; at its end it pushes a last time
_BEGUN = "begun"  # the first line of what it says when it has started
_CODE = "import sys; from mematlas.serve.child import main; sys.exit(main(*sys.argv[1:]))"


class ServingProcess:
    """A process of its own, so that recording never waits for a reader.

    It ends with this process, also where SIGKILL gives no time to tell.
    """

    def __init__(self, publication: Publication, environment: Mapping[str, str]) -> None:
        """Start it, and wait until it serves; `said` is what it serves and pushes.

        Raises:
            MematlasError: with the words of the process if it does not start.
        """
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            try:
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, "-P", "-X", "tracemalloc=0", "-c", _CODE),
                        *(str(os.getpid()), str(writer), json.dumps(publication)),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    # OpenBLAS would start a thread for each CPU, and nothing here uses it.
                    env={"OPENBLAS_NUM_THREADS": "1", **environment},
                    pass_fds=(writer,),
                    start_new_session=True,
                )
            finally:
                os.close(writer)
            try:
                first, *self.said = _read_lines(pipe.fileno()) or ["the server did not start"]
            except BaseException:
                self.end()
                raise
        if first != _BEGUN:
            self.end()
            raise MematlasError(first)

    @property
    def pid(self) -> int:
        """Its PID."""
        return self._process.pid

    def end(self) -> None:
        """End the process, and wait for its last push."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _read_lines(reader: int) -> list[str]:
    """Read lines up to an empty one; none if that takes too long.

    A program that another thread forked meanwhile may hold the other end open.
    """
    end, text = time.monotonic() + _START_S, b""
    while select.select([reader], [], [], max(0.0, end - time.monotonic()))[0]:
        piece = os.read(reader, 1 << 16)
        text += piece
        if not piece or text.endswith(b"\n\n"):
            return list(filter(None, text.decode().split("\n")))
    return []


@contextmanager
def published(publication: Publication) -> Iterator[None]:
    """Serve and push a recording while it is written. The token of a push is kept from the program.

    Raises MematlasError with the words of the process if it does not start.
    """
    server = ServingProcess(publication, inherited_environment())
    os.environ.pop(TOKEN, None)
    try:
        for line in server.said:
            sys.stderr.write(f"mematlas: {line}\n")
        yield
    finally:
        server.end()


def main(parent: str, said: str, request: str) -> int:
    """Publish for a parent process: its PID, the descriptor for the first words, and the publication as JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the program
    with end_signals(signal.SIGTERM) as wait:
        try:
            publisher = _prepare(Publication(*json.loads(request)))
        except MematlasError as error:
            _tell(int(said), [" ".join(str(error).split())])
            return error.exit_code
        with publisher:
            threading.Thread(
                target=_end_with, args=(int(parent), publisher.await_end), daemon=True
            ).start()
            _tell(int(said), [_BEGUN, *publisher.describe()])
            wait()
    return 0


def _prepare(publication: Publication) -> Publisher:
    try:
        from mematlas.serve.publisher import Publisher
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("mematlas"):
            raise
        raise UnsupportedError(
            f"serving and pushing need {error.name}: pip install {error.name}"
        ) from None
    return Publisher(publication)


def _tell(descriptor: int, lines: Sequence[str]) -> None:
    with (
        suppress(OSError),
        os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        file.writelines(f"{line}\n" for line in [*lines, ""])


def _end_with(parent: int, await_end: Callable[[], object]) -> None:
    """End this process after its parent, when the recording has its end, or after some seconds."""
    try:
        descriptor = os.pidfd_open(parent)
    except OSError:  # it is gone, or the kernel is older than 5.3
        descriptor = -1
    if os.getppid() == parent and descriptor >= 0:
        select.select([descriptor], [], [])
    while os.getppid() == parent:
        time.sleep(1)
    await_end()
    os.kill(os.getpid(), signal.SIGTERM)
