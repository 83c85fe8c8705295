"""The command line: one module per command, the only place that composes layers."""

from mematlas.cli.main import main

__all__ = ["main"]
