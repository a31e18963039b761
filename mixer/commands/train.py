"""``mixer train``: the same as ``python -m mixer.train``."""

import argparse

NAME = "train"
HELP = "fine-tune a checkpoint, or train one from scratch"
PASSES_ON = True
EXAMPLES = """\
mixer train --name cifar10-100_500 --model_type Mixer-B_16
mixer train --name try --model_type Mixer-Nano_4 --dataset digits \\
    --num_steps 50 --warmup_steps 5 --train_batch_size 64
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of ``python -m mixer.train``, which also prints their help and examples."""
    parser.add_argument("arguments", nargs="*", metavar="...")


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    from mixer.train.cli import main

    return main(args.arguments)
