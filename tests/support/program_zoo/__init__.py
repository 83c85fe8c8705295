"""Programs that nobody here wrote, run bare and traced, and held against each other."""
