"""Options of a server, and the server that `run --serve` and `attach --serve` start."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError, UsageError

if TYPE_CHECKING:
    import argparse
    import subprocess
    from collections.abc import Iterator, Sequence

_START_S, _END_S = 60, 10  # that a server may take
_SERVING = "mematlas: serving "
_SERVER = (
    "import sys; from mematlas.cli.listening import serve_for; sys.exit(serve_for(*sys.argv[1:]))"
)


def add_listening(parser: argparse.ArgumentParser, option: str, *, default: str | None) -> None:
    """Declare where a server listens and what it demands."""
    words = f" (default {default})" if default else ""
    parser.add_argument(
        option,
        metavar="ADDRESS",
        default=default,
        help=f"serve on HOST:PORT or unix:PATH{words}; beyond this machine only with a token and TLS",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        default="",
        help="demand the token in the first line of FILE",
    )
    parser.add_argument("--tls-cert", metavar="FILE", default="", help="certificate (PEM), for TLS")
    parser.add_argument("--tls-key", metavar="FILE", default="", help="its private key")


def options_of(arguments: argparse.Namespace) -> list[str]:
    """Return the options of `mematlas serve` that `run --serve` and `attach --serve` were given."""
    words = ["--listen", arguments.serve]
    for name in ("token_file", "tls_cert", "tls_key"):
        if value := getattr(arguments, name):
            words += [f"--{name.replace('_', '-')}", value]
    return words


def check_listening(arguments: argparse.Namespace) -> None:
    """Raise UsageError for a wrong address or a missing protection, before a program starts."""
    given = [arguments.token_file, arguments.tls_cert, arguments.tls_key]
    if arguments.serve is None:
        if any(given):
            raise UsageError("--token-file, --tls-cert and --tls-key go with --serve")
        return
    from mematlas.serve.address import parse_address, protect

    protect(parse_address(arguments.serve), *given)


@contextmanager
def served(path: str, options: Sequence[str]) -> Iterator[None]:
    """Serve a recording in a process of its own while it is written, so that recording never waits.

    Raises MematlasError with the server's own words if it does not start.
    """
    import subprocess

    from mematlas.tracing.child import inherited_environment

    command = [sys.executable, "-P", "-c", _SERVER, str(os.getpid()), path, *options]
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, env=inherited_environment(), start_new_session=True,
    )  # fmt: skip
    try:
        said = _first_message(server)
        if not said.startswith(_SERVING):
            text = said.removeprefix("mematlas: ").strip()
            raise MematlasError(text or "the server did not start")
        sys.stderr.write(said)
        yield
    finally:
        _end(server)


def _first_message(server: subprocess.Popen[str]) -> str:
    """Return the first line that a server says itself, or the last line where it ended without one."""
    assert server.stderr is not None
    limit = threading.Timer(_START_S, server.kill)
    limit.start()
    said = ""
    try:
        for said in server.stderr:  # Python may print a warning before
            if said.startswith("mematlas: "):
                break
    finally:
        limit.cancel()
    return said


def _end(server: subprocess.Popen[str]) -> None:
    import subprocess

    assert server.stderr is not None
    server.terminate()
    try:
        server.wait(_END_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    server.stderr.close()


def serve_for(parent: str, *words: str) -> int:
    """Run `mematlas serve` until it is told to end or its parent is gone, which SIGKILL gives no time to tell."""
    from mematlas.cli.main import main

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    return main(["serve", *words])
