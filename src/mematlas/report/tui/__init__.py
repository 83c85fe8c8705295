"""Live terminal view of a growing recording."""
