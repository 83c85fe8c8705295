"""Where profiles are pushed to, and the token for it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mematlas.errors import UsageError
from mematlas.serve.address import Address, parse_address, protect
from mematlas.serve.publication import TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mematlas.serve.publication import Publication

FORMS = "otlp://HOST:4317, otlp+http://HOST:4318 or pyroscope+http://HOST:4040"
_KINDS = {
    "otlp": ("otlp", "grpc"),
    "otlps": ("otlp", "grpcs"),
    "otlp+http": ("otlp", "http"),
    "otlp+https": ("otlp", "https"),
    "pyroscope+http": ("pyroscope", "http"),
    "pyroscope+https": ("pyroscope", "https"),
}
_PORTS = {"grpc": 4317, "grpcs": 4317}
_VISIBLE = re.compile(r"[!-~]+")  # of ASCII


@dataclass(frozen=True, slots=True)
class Destination:
    """A collector of profiles. `user`: of Basic authorization; "": the token is a bearer's."""

    protocol: str  # "otlp" or "pyroscope"
    transport: str  # "grpc", "grpcs", "http" or "https"
    place: str  # HOST or HOST:PORT
    path: str = ""
    user: str = ""

    @property
    def encrypted(self) -> bool:
        """Whether TLS protects what is sent."""
        return self.transport.endswith("s")

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine: it is asked without the proxy of the environment, which would see the token."""
        host = self.place.rpartition(":")[0] or self.place
        return Address(host.strip("[]"), 0).loopback

    @property
    def url(self) -> str:
        """Where HTTP requests go to, without the last part of the path."""
        return f"{self.transport}://{self.place}{self.path}"

    def __str__(self) -> str:
        kind = {"grpc": "otlp", "grpcs": "otlps"}.get(self.transport)
        return f"{kind or f'{self.protocol}+{self.transport}'}://{self.place}{self.path}"


def check_publication(publication: Publication) -> None:
    """Raise UsageError for a wrong address or a missing protection, before a program starts."""
    _, listen, token_file, tls_cert, tls_key, push, _ = publication
    if listen:
        protect(parse_address(listen), token_file, tls_cert, tls_key)
    for each in push:
        read_token(parse_destination(each))


def parse_destination(text: str) -> Destination:
    """Parse the address of a collector. Raises UsageError."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UsageError(f"{text!r} is no address to push to: give {FORMS}") from None
    if parts.password is not None:
        raise UsageError(f"a password in an address can be read by others: give it in {TOKEN}")
    known = _KINDS.get(parts.scheme)
    if (
        known is None
        or not _VISIBLE.fullmatch(text)
        or not parts.hostname
        or parts.query
        or parts.fragment
    ):
        raise UsageError(f"{text!r} is no address to push to: give {FORMS}")
    protocol, transport = known
    path = parts.path.rstrip("/")
    if transport in _PORTS and (path or parts.username):
        raise UsageError(f"{text!r} has more than host and port: give otlp://HOST:4317")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = port if port is not None else _PORTS.get(transport)
    place = host if port is None else f"{host}:{port}"
    return Destination(protocol, transport, place, path, unquote(parts.username or ""))


def read_token(destination: Destination, environment: Mapping[str, str] = os.environ) -> str:
    """Return the token for a destination; "" where the environment has none.

    Raises UsageError where others could read it on its way, or where it is malformed.
    """
    token = environment.get(TOKEN, "").strip()
    if not token:
        if destination.user:
            raise UsageError(f"{destination} has a user: give the password in {TOKEN}")
        return ""
    if not _VISIBLE.fullmatch(token):
        raise UsageError(f"{TOKEN} has letters that no header may have")
    if not destination.encrypted and not destination.is_local:
        secure = "otlps" if destination.transport == "grpc" else f"{destination.protocol}+https"
        raise UsageError(f"{TOKEN} would be sent in clear text: give {secure}://...")
    return token
