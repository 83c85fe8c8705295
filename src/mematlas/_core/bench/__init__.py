"""Benchmark loops of the C core."""
