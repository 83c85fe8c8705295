"""Renders models as text, HTML and JSON, and does nothing else."""
