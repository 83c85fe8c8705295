"""Parsers of /proc files into columns."""
