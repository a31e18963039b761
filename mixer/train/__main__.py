"""``python -m mixer.train``."""

import sys

from mixer.train.cli import main

if __name__ == "__main__":
    sys.exit(main())
