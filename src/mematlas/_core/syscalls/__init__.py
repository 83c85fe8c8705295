"""System calls that the standard library does not have."""
