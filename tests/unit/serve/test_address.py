"""Addresses of a server, and what they demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mematlas.errors import UsageError
from mematlas.serve.address import parse_address, protect

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "shown", "loopback"),
    [
        ("127.0.0.1:9464", "127.0.0.1:9464", True),
        (":9464", "127.0.0.1:9464", True),
        ("[::1]:80", "[::1]:80", True),
        ("localhost:1", "localhost:1", True),
        ("0.0.0.0:9464", "0.0.0.0:9464", False),
        ("[::]:9464", "[::]:9464", False),
        ("example.org:443", "example.org:443", False),
        ("unix:/run/m.sock", "unix:/run/m.sock", True),
    ],
)
def test_addresses(text: str, shown: str, *, loopback: bool) -> None:
    """Each form is understood; an address of other machines is told from one of this machine."""
    found = parse_address(text)
    assert (str(found), found.loopback) == (shown, loopback)


@pytest.mark.parametrize("text", ["", "9464", "host:", "host:port", "host:99999", "unix:", "a:-1"])
def test_no_addresses(text: str) -> None:
    """What is no address is an error."""
    with pytest.raises(UsageError):
        parse_address(text)


def test_other_machines_are_let_in_with_token_and_tls_only(tmp_path: Path) -> None:
    """Any part of the protection alone is refused; a token that others may read, or a short one, too."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    token.chmod(0o600)
    public = parse_address("0.0.0.0:9464")
    for given in (("", "", ""), (str(token), "", ""), ("", "c.pem", "k.pem")):
        with pytest.raises(UsageError):
            protect(public, *given)
    found = protect(public, str(token), "c.pem", "k.pem")
    assert found.admits("0123456789abcdef")
    assert not found.admits("0123456789abcdeF")
    assert not found.admits("")
    token.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        protect(public, str(token), "c.pem", "k.pem")
    token.chmod(0o600)
    token.write_text("short\n")
    with pytest.raises(UsageError, match="less than 16"):
        protect(public, str(token), "c.pem", "k.pem")
    with pytest.raises(UsageError, match="go together"):
        protect(parse_address(":1"), "", "c.pem", "")
