"""Runs programs under the tracer and turns what it reports into a recording."""
