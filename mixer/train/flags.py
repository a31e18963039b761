"""The flags of ``python -m mixer.train``; those of a recipe are made from its fields."""

import argparse
import typing
from dataclasses import fields
from typing import Any

from mixer.checkpoint import OFFICIAL_FILES, bundled_names
from mixer.config import MODELS
from mixer.train.compiling import COMPILE_MODES
from mixer.train.recipes import RECIPES, Recipe, flag_of

_EXAMPLES = """\
examples:
  python -m mixer.train --name cifar10-100_500 --model_type Mixer-B_16
      fine-tune the official B/16 on CIFAR-10, 500 steps, 100 of them warm-up; the file is
      downloaded if need be
  python -m mixer.train --name cifar10-100_500 --model_type Mixer-B_16 \\
      --pretrained_dir checkpoint/Mixer-B_16.npz
      the same with a file that is already there
  python -m mixer.train --name cifar10-100_500 --model_type Mixer-B_16 --resume
      go on with a run that was stopped or killed
  torchrun --nproc_per_node=4 -m mixer.train --name cifar10-100_500 --model_type Mixer-B_16
      the same on four GPUs of this machine: the batch of 512 is shared out, the losses are those
      of one
  python -m mixer.train --name try --model_type Mixer-Nano_4 --dataset digits --num_steps 50 \\
      --warmup_steps 5 --train_batch_size 64
      the project's own small model, which comes with the package, on a CPU

exit status: 0 at the end, 1 after an error, 2 for a flag that is none, 130 after Ctrl-C and 143
after SIGTERM; both leave a state to go on from.
"""


def parser() -> argparse.ArgumentParser:
    """The flags; those of a recipe are made from its fields."""
    flags = argparse.ArgumentParser(
        prog="python -m mixer.train",
        usage="%(prog)s --name NAME [--model_type MODEL] [--FLAG VALUE ...]; --help lists all",
        description="Fine-tune an MLP-Mixer, or train one from scratch. "
        "What is not given comes from the recipe.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = flags.add_argument
    add(
        "--name",
        required=True,
        help="of the run; one like cifar10-100_500 also sets data set, warm-up (100 steps) and "
        "steps (500 in all), where neither --recipe nor a flag of its own does",
    )
    add("--recipe", help=f"one of {', '.join(RECIPES)} (default: official)")
    ours = [name for name in bundled_names() if name in MODELS]
    known = ", ".join([*OFFICIAL_FILES, *ours])
    add("--model_type", default="Mixer-B_16", help=f"{known}; from scratch any of mixer.MODELS")
    add("--pretrained_dir", help="the checkpoint, an .npz file (default: the one of that name)")
    add("--keep_head", action="store_true", help="start with the checkpoint's head, not a new one")
    add(
        "--dataset",
        help="cifar10, cifar100, digits, folder:PATH, or NAME for NAME.npz in MIXER_DATA's folder",
    )
    add("--skip_unreadable", action="store_true", help="leave out damaged images of a folder")
    add("--output_dir", default="output", help="the run folder is OUTPUT_DIR/NAME")
    add("--image_size", help="pixels, such as 224 or 16x64 (default: the checkpoint's)")
    _add_options(flags)
    official = flags.add_argument_group("recipe")
    beyond = flags.add_argument_group("beyond the official recipe")
    types = typing.get_type_hints(Recipe)
    for setting in fields(Recipe):
        group = beyond if setting.metadata.get("beyond") else official
        _add_setting(group, setting, types[setting.name])
    return flags


def _add_options(flags: argparse.ArgumentParser) -> None:
    add = flags.add_argument
    add("--eval_batch_size", type=int, default=512, help="images at a time in tests")
    add(
        "--eval_every",
        type=int,
        help="steps between tests (default: 100; a tenth of a run from scratch)",
    )
    add("--save_every", type=int, default=200, help="steps between states to go on from")
    add(
        "--gradient_accumulation_steps",
        type=int,
        help="parts of a batch (default: as many as the free memory asks for)",
    )
    add("--precision", help="fp32, bf16 or fp16 (default: what the device does natively)")
    add("--fp16", action="store_true", help="the same as --precision fp16")
    add(
        "--compile",
        nargs="?",
        const="default",
        choices=COMPILE_MODES,
        help="use torch.compile, in a mode of its own if given; blocks: a block at a time, which "
        "is sooner ready where there are many",
    )
    add("--device", help="cuda, cuda:1, mps, xpu or cpu (default: the best at hand)")
    add(
        "--resume",
        action="store_true",
        help="go on with the run of this name; with another --num_steps too, where the steps made "
        "so far would have been the same",
    )


def _add_setting(group: Any, setting: Any, kind: Any) -> None:
    flag, text = flag_of(setting), setting.metadata["help"]
    if kind is bool:
        group.add_argument(flag, dest=setting.name, action="store_true", default=None, help=text)
        return
    number = next((k for k in (int, float) if k in (kind, *typing.get_args(kind))), str)
    default = "" if setting.default is None else f" (official: {setting.default})"
    if setting.metadata.get("beyond"):
        default = default.replace("official", "default")
    group.add_argument(flag, dest=setting.name, type=number, help=text + default)
