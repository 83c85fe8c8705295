"""System calls that the standard library lacks."""
