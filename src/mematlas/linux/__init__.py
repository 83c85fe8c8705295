"""One module per kernel interface: its reader and its dataclasses."""
