"""Options of `mematlas report` that end up in the page."""

from __future__ import annotations

import argparse

import pytest

from mematlas.cli.report import editor_url


@pytest.mark.parametrize(
    "url", ["vscode://file/{file}:{line}", "idea://open?file={file}&line={line}"]
)
def test_editors(url: str) -> None:
    """The URL of an editor is taken as it is."""
    assert editor_url(url) == url


@pytest.mark.parametrize(
    "url", ["javascript:open({file})", "JavaScript:{file}", "data:{file}", "{file}", "zed://open", ""]
)  # fmt: skip
def test_no_editors(url: str) -> None:
    """What a browser would run or show, or has no place for the file, is refused."""
    with pytest.raises(argparse.ArgumentTypeError, match="not the URL of an editor"):
        editor_url(url)
