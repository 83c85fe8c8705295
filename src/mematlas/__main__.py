"""Entry point of `python -m mematlas`."""

import sys

from mematlas.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
