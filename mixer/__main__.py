"""``python -m mixer``: the command line."""

import sys

from mixer.cli import main

sys.exit(main())
