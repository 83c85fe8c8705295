"""The version, in one place. meson.build states the same one, a test compares."""

__version__ = "0.1.0"
