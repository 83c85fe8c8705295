"""The version of the package. meson.build states it too; a test compares them."""

__version__ = "0.1.0"
