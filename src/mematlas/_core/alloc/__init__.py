"""Arenas, pools and NumPy data handlers of the C core."""
