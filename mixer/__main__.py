"""``python -m mixer``: the command line."""

from mixer.cli import main

raise SystemExit(main())
