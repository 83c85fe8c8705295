"""Options of a server, and the server that `run --serve` and `attach --serve` start."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

_END_S = 10


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

    command = [sys.executable, "-m", "mematlas", "serve", path, *options]
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, env=inherited_environment(), start_new_session=True,
    )  # fmt: skip
    assert server.stderr is not None
    said = server.stderr.readline()
    if not said.startswith("mematlas: serving "):
        server.wait()
        raise MematlasError(said.removeprefix("mematlas: ").strip() or "the server did not start")
    sys.stderr.write(said)
    try:
        yield
    finally:
        server.terminate()
        try:
            server.wait(_END_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stderr.close()
