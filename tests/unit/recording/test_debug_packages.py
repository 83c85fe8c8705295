"""Advice on functions without names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.recording import debug_packages
from mematlas.recording.model import Module

if TYPE_CHECKING:
    import pytest

GONE = Module("/nowhere/libgone.so", "ab12", 0, 0x1000, 0x2000)


def test_nothing_is_missing() -> None:
    """No sentence without files."""
    assert debug_packages.describe_missing([]) == ""


def test_a_file_that_is_not_here_gets_the_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package is named only for a file of this machine; a server that is set is not advised again."""
    monkeypatch.delenv("DEBUGINFOD_URLS", raising=False)
    text = debug_packages.describe_missing([GONE, GONE])
    assert text.startswith("functions of libgone.so have no names: set DEBUGINFOD_URLS=https://")
    monkeypatch.setenv("DEBUGINFOD_URLS", "https://symbols.example")
    text = debug_packages.describe_missing([GONE])
    assert "build ID ab12" in text
    assert "DEBUGINFOD_URLS" not in text


def test_servers_of_distributions() -> None:
    """The first name that is known decides; derivatives name their parent."""
    assert debug_packages._server_of(["mint", "ubuntu", "debian"]).endswith("ubuntu.com")
    assert debug_packages._server_of(["other"]) == debug_packages._ANY_SERVER


def test_the_output_of_dpkg() -> None:
    """The package stands before the architecture or the colon."""
    assert debug_packages._after_dpkg("libc6:amd64: /lib/x86_64-linux-gnu/libc.so.6\n") == "libc6"
    assert debug_packages._after_dpkg("git: /usr/bin/git\n") == "git"
    assert debug_packages._names_of("/usr/bin/x")[-1] == "/bin/x"


def test_a_name_that_no_file_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of a module is text of a file that anybody may have written."""
    monkeypatch.setenv("DEBUGINFOD_URLS", "https://symbols.example")
    for path in ("/usr/lib/a\0b", "/usr/lib/\ud800"):
        assert debug_packages.describe_missing([Module(path, "", 0, 0x1000, 0x2000)])
