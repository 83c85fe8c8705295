"""The terminal view of a recording that is being made."""
