"""``python -m mixer.checkpoint download NAME``."""

import argparse
from collections.abc import Sequence

from mixer.checkpoint.layout import CheckpointError
from mixer.checkpoint.official import OFFICIAL_FILES, download


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m mixer.checkpoint download NAME``."""
    parser = argparse.ArgumentParser(
        prog="python -m mixer.checkpoint", description="Official Mixer checkpoints."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("download", help="fetch an official file, or find it where it is")
    fetch.add_argument("name", choices=OFFICIAL_FILES)
    fetch.add_argument(
        "--root", help="the folder (default: checkpoints in MIXER_DATA or the user's cache)"
    )
    options = parser.parse_args(arguments)
    try:
        # Whoever types this wants the server asked, also if it was silent a short while ago.
        print(download(options.name, options.root, ask_again=True))
    except (OSError, CheckpointError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
