"""Runs a script in this process, after it took as many bytes as $GROW says."""

import os
import runpy
import sys

held = bytearray(int(os.environ.get("GROW", "0")))
held[::4096] = b"\1" * len(held[::4096])
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
