"""Parsers of /proc files, straight into columns."""
