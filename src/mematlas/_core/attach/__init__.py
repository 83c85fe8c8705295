"""Entering a running process from outside: its code, its threads, calls in them."""
