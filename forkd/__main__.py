"""`python -m forkd`: the same as the command `forkd`."""

from __future__ import annotations

import sys

from forkd.cli import main

if __name__ == "__main__":
    sys.exit(main())
