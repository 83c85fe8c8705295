"""Measuring loops of the C core."""
