"""mematlas: every resident byte of a Linux program, and the line of code that owns it."""

__version__ = "0.1.0"
__all__ = ["__version__"]
