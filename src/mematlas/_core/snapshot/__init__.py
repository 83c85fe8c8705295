"""A copy of the memory of a running process at one time."""
