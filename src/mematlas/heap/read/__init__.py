"""Readers: of a process's memory, and of the allocators and types in the copy."""
