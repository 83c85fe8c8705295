"""The machine's memory knobs: changed as a set, journalled first, read back, and undone with care."""
