"""Where a server listens, and who may ask it."""

from __future__ import annotations

import hmac
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from mematlas.errors import AccessError, TargetError, UsageError

DEFAULT = "127.0.0.1:9464"
_UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address, or the path of a Unix socket."""

    host: str
    port: int
    path: str = ""

    @property
    def loopback(self) -> bool:
        """Whether only programs of this machine reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.path:
            return f"{_UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Protection:
    """What a server demands: a token of each request, and TLS. Empty: nothing."""

    token: str = ""
    certificate: str = ""
    key: str = ""

    def admits(self, given: str) -> bool:
        """Return whether a token is right. The time does not depend on how much of it is."""
        return not self.token or hmac.compare_digest(given.encode(), self.token.encode())


def parse_address(text: str) -> Address:
    """Parse HOST:PORT, [IPV6]:PORT or unix:PATH. Raises UsageError."""
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX)
        if not path:
            raise UsageError("give the path of the socket: unix:/run/mematlas.sock")
        return Address("", 0, os.path.abspath(path))  # noqa: PTH100
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{text!r} is not an address: give HOST:PORT, such as {DEFAULT}")
    return Address(host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port))


def protect(address: Address, token_file: str, certificate: str, key: str) -> Protection:
    """Return the protection of a server. Raises UsageError where other machines reach it without."""
    if bool(certificate) != bool(key):
        raise UsageError("the certificate and its key go together: give both, or none")
    if not address.loopback and not (token_file and certificate):
        raise UsageError(
            f"{address} is reached by other machines: give a token file, a certificate and its key,"
            " or listen on 127.0.0.1"
        )
    return Protection(_read_token(token_file) if token_file else "", certificate, key)


def _read_token(path: str) -> str:
    """Read the first line of a file that others may not read."""
    file = Path(path)
    try:
        status, text = file.stat(), file.read_text("utf-8")
    except FileNotFoundError:
        raise TargetError(f"there is no file {path}") from None
    except PermissionError:
        raise AccessError(f"permission denied: {path}") from None
    if status.st_mode & 0o044:
        raise UsageError(f"others may read {path}: chmod 600 {path}")
    token = text.partition("\n")[0].strip()
    if len(token) < 16:
        raise UsageError(f"{path} holds a token of less than 16 letters")
    return token
