"""Options that `mematlas run` and `mematlas attach` share: how a recording is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.cli.arguments import interval, positive, size
from mematlas.errors import UsageError
from mematlas.tracing.settings import INTERVAL_S, SAMPLE_BYTES, TraceSettings

if TYPE_CHECKING:
    import argparse


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="recording to write; default mematlas-NAME.PID.atlas"
    )
    parser.add_argument("--exact", action="store_true", help="record every allocation")
    parser.add_argument(
        "--sample-bytes",
        type=size,
        default=SAMPLE_BYTES,
        metavar="N",
        help="mean bytes between samples, default 512K",
    )
    parser.add_argument(
        "--interval",
        type=interval,
        default=INTERVAL_S,
        metavar="S",
        help="time between residency snapshots, default 1s",
    )
    parser.add_argument(
        "--cold",
        type=interval,
        default=0.0,
        metavar="S",
        help="tell whose memory nobody used for so long, again and again",
    )
    parser.add_argument("--seed", type=positive, default=0, help="make the sampling repeatable")


def settings_of(arguments: argparse.Namespace, fault_period: int) -> TraceSettings:
    """Give the settings they make.

    Raises:
        UsageError: one of them makes no sense.
    """
    if arguments.sample_bytes < 1:
        raise UsageError("--sample-bytes must be at least 1; use --exact to record everything")
    return TraceSettings(
        exact=arguments.exact,
        sample_bytes=arguments.sample_bytes,
        interval_s=arguments.interval,
        fault_period=fault_period,
        seed=arguments.seed,
        idle_s=arguments.cold,
    )


def as_words(settings: TraceSettings, path: str) -> list[str]:
    """Give them as they would be typed: for the mematlas that a live view starts."""
    words = ["-o", path, "--sample-bytes", str(settings.sample_bytes)]
    words += ["--interval", f"{settings.interval_s}s"] + ["--exact"] * settings.exact
    words += ["--cold", f"{settings.idle_s}s"] if settings.idle_s else []
    words += ["--seed", str(settings.seed)] if settings.seed else []
    return words
