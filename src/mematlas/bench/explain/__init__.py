"""Explanations of benchmark results, with advice."""
