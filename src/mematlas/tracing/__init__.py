"""Runs programs under the tracer and turns what it reports into a recording."""

from mematlas.tracing.loop import Outcome, run
from mematlas.tracing.settings import Settings

__all__ = ["Outcome", "Settings", "run"]
