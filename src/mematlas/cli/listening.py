"""Options of what is served and pushed of a recording: of `serve`, `run` and `attach`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from mematlas.cli.arguments import interval
from mematlas.errors import UsageError
from mematlas.serve.publication import PUSH_S, TOKEN, Publication

if TYPE_CHECKING:
    import argparse

_FILES = ("token_file", "tls_cert", "tls_key")


def add_listening(parser: argparse.ArgumentParser, option: str, *, default: str | None) -> None:
    """Declare where a server listens, what it demands, and what is pushed."""
    words = f" (default {default})" if default else ""
    parser.add_argument(
        option,
        metavar="ADDRESS",
        dest="listen",
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
    parser.add_argument(
        "--push",
        metavar="URL",
        action="append",
        default=[],
        help="push heap profiles: pyroscope+http://HOST:4040, or otlp://HOST:4317 and otlp+http://HOST:4318"
        f" (OTLP profiles are alpha); repeatable; ...s://: TLS; the token is read from {TOKEN}",
    )
    parser.add_argument(
        "--push-interval",
        metavar="TIME",
        type=interval,
        default=PUSH_S,
        help=f"time between two pushes (default {PUSH_S:g}s)",
    )


def publication_of(arguments: argparse.Namespace, path: str) -> Publication:
    """Return what the options tell to serve and push of a recording."""
    return Publication(
        path,
        arguments.listen or "",
        arguments.token_file,
        arguments.tls_cert,
        arguments.tls_key,
        tuple(arguments.push),
        arguments.push_interval,
    )


def check_listening(arguments: argparse.Namespace) -> None:
    """Raise UsageError for a wrong address or a missing protection, before a program starts."""
    if arguments.listen is None and any(getattr(arguments, name) for name in _FILES):
        raise UsageError("--token-file, --tls-cert and --tls-key go with --serve")
    if is_published(arguments):
        from mematlas.serve.destination import check_publication

        check_publication(publication_of(arguments, ""))


def is_published(arguments: argparse.Namespace) -> bool:
    """Return whether anything is to be served or pushed."""
    return arguments.listen is not None or bool(arguments.push)


def published(arguments: argparse.Namespace, path: str) -> AbstractContextManager[None]:
    """Serve and push a recording in a process of its own while it is written, if the options say so."""
    if not is_published(arguments):
        return nullcontext()
    from mematlas.serve import child

    return child.published(publication_of(arguments, path))
