"""Signals to `mematlas attach` while its recording is written."""

from __future__ import annotations

import argparse
import signal
from typing import TYPE_CHECKING

import pytest

import mematlas.cli.attach
import mematlas.cli.run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_do_not_interrupt_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Ctrl-C at the moment the process ends leaves a complete recording."""
    before, done = signal.getsignal(number), []

    def write(*_arguments: object) -> None:
        signal.raise_signal(number)
        done.append("written")

    monkeypatch.setattr(mematlas.cli.attach, "_attach", lambda *_: None)
    monkeypatch.setattr(mematlas.cli.run, "finish", write)
    monkeypatch.setattr(mematlas.cli.run, "print_summary", lambda *_: None)
    parser = argparse.ArgumentParser()
    mematlas.cli.attach.add_arguments(parser)
    arguments = parser.parse_args(["1", "-o", str(tmp_path / "a.atlas")])
    assert mematlas.cli.attach.run(arguments) == 0
    assert done == ["written"]
    assert signal.getsignal(number) is before
