"""Runs programs under the tracer and writes what the collector reads from them to a recording."""

from mematlas.tracing.loop import RunResult, run
from mematlas.tracing.settings import TraceSettings

__all__ = ["RunResult", "TraceSettings", "run"]
