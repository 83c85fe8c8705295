"""Marks: moments of this program that a recording names."""

from __future__ import annotations


def mark(name: str) -> None:
    """Mark this moment of the program by a name, for `report --at NAME` and `diff --at NAME`.

    A traced program waits until the account of its memory is taken, at most a second. In a program that is
    not traced, nothing happens. Every thread may call it. The name is cut after 63 bytes. A name that is
    set again is the moment "NAME#2", then "NAME#3". A process gets 32 accounts of one name and 256 of all
    names; later marks have a time only.

    >>> import mematlas
    >>> mematlas.mark("loaded")
    """
    # Not through the facade: its import would be seen in the account.
    from mematlas._native import lib

    lib.mematlas_mark_moment(name.encode("utf-8", "surrogateescape"))


mark.__module__ = "mematlas"
