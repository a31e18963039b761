"""``train`` and ``finetune``: what fits together is checked, then a run is made of it.

References:
  Tolstikhin et al., 2021, arXiv:2105.01601, appendix B (pre-training) and C (fine-tuning).
  google-research/vision_transformer, vit_jax/train.py (the official recipe).
"""

import warnings
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch

from mixer.data import ImageData
from mixer.files import check_writable
from mixer.model import MlpMixer
from mixer.train import distributed, state
from mixer.train.accumulation import pick_accumulation
from mixer.train.compiling import GRAPH_MODES, check_compile, uncompile
from mixer.train.device import forked_rng
from mixer.train.lock import only_writer
from mixer.train.loop import Loop
from mixer.train.optimizers import check_optimizer
from mixer.train.options import Options, check_batch
from mixer.train.recipes import Recipe, get_recipe
from mixer.train.run import Run
from mixer.train.run_folder import History, RunFolder


def train(
    model: MlpMixer,
    data: ImageData,
    recipe: Recipe,
    options: Options | None = None,
    **changes: Any,
) -> History:
    """Train ``model`` in place and return what was measured.

    With weight averaging the model ends with the averaged weights. Under ``torchrun``, inside
    ``distributed.joined``, all processes call this alike: each trains on its own part of every
    batch (PyTorch's DDP) and scores its own part of the test set; process 0 writes the files. Steps
    and losses are those of a single process, but for draws that each process makes for its own
    images (mixup, RandAugment, dropout, stochastic depth). Torch's global random generators are
    left as they were.

    Args:
        model, data: the head has at least as many classes as the data; images of another size are
            resized.
        recipe: how to train.
        options, changes: ``Options``, and any of its fields.

    Raises:
        ValueError: model, data, recipe and options do not fit together, ``resume`` with other
            settings, or another process is at work on the same run.
        TrainingError: the loss is not finite, or the memory does not suffice.
        OSError: the run folder cannot be written, or the disk is too full for the run.
        KeyboardInterrupt: Ctrl-C or SIGTERM (``interrupt.Stopped``), once the step was finished and
            the state was written.
    """
    if options is None or changes:
        options = replace(options or Options(), **changes)
    check_batch(recipe, options)
    check_optimizer(recipe)
    _check_inputs(model, data, recipe)
    device = options.chosen_device
    check_compile(options.compile, model.config, device)
    with ExitStack() as stack:
        folder = _open_folder(model, recipe, options, stack)
        stack.callback(uncompile, model)
        stack.enter_context(forked_rng(device))
        model.to(device).train()
        there = data.to(device)
        parts = _accumulation(model, recipe, options, device)
        loop = Loop(model, there, recipe, options.chosen_precision, options.compile, parts)
        return Run(loop, options, folder).to_the_end()


def finetune(
    model: MlpMixer,
    data: ImageData,
    recipe: str | Recipe = "cifar10-100_500",
    **options: Any,
) -> History:
    """Fine-tune ``model`` in place: ``train`` with a recipe by name.

    Args:
        model: mostly from ``mixer.from_npz(path, num_classes=len(data.classes))``.
        data: from ``mixer.data.load_data``.
        recipe: a key of ``RECIPES`` or a ``Recipe``.
        options: fields of ``Options``, such as ``output_dir``, ``precision`` or ``eval_every``.

    Raises:
        ValueError: an unknown recipe, and what ``train`` raises.
    """
    return train(model, data, get_recipe(recipe), **options)


def _open_folder(
    model: MlpMixer, recipe: Recipe, options: Options, stack: ExitStack
) -> RunFolder | None:
    """The run folder, in process 0, locked until ``stack`` ends; the state can be written there."""
    if distributed.rank() != 0 or options.state_path is None:
        return None
    place = options.state_path
    is_run = options.output_dir is not None
    check_writable(place.parent, "run folder" if is_run else "folder of the state")
    stack.enter_context(only_writer(place))
    if not is_run:
        return None
    size = state.state_bytes(model, recipe)
    return RunFolder(place.parent, size, options.resume)


def _accumulation(model: MlpMixer, recipe: Recipe, options: Options, device: torch.device) -> int:
    """Into how many parts a batch is split: as asked for, else as the free memory asks."""
    if options.gradient_accumulation_steps is not None:
        return options.gradient_accumulation_steps
    if options.compile in GRAPH_MODES:
        return 1
    size = recipe.batch_size // distributed.world_size()
    fitting = pick_accumulation(model.config, size, device, options.chosen_precision)
    parts = distributed.largest(fitting, device)
    if parts > 1 and distributed.rank() == 0:
        print(f"a batch goes in {parts} parts of {size // parts} images, as the free memory asks")
    return parts


def _check_inputs(model: MlpMixer, data: ImageData, recipe: Recipe) -> None:
    if len(data.classes) > model.config.num_classes:
        found = f"{data.name} has {len(data.classes)}, the head only {model.config.num_classes}"
        raise ValueError(f"classes: {found}; make the model with num_classes={len(data.classes)}")
    for rate in ("dropout", "stochastic_depth"):
        wanted, built = getattr(recipe, rate), getattr(model.config, rate)
        if wanted and wanted != built:
            found = f"the recipe says {wanted}, but the model was built with {built}"
            raise ValueError(f"{rate}: {found}; build it so")
    used = int(len(data.x_train) * recipe.train_fraction)
    if used < 1 or not len(data.x_test):
        found = f"{len(data.x_train)} to train on ({recipe.train_fraction:.0%} are used)"
        raise ValueError(f"data: expected images, found {found}, {len(data.x_test)} to test")
    unseen = set(data.y_train.tolist()) - set(data.y_train[:used].tolist())
    if unseen:
        names = ", ".join(data.classes[label] for label in sorted(unseen))
        share = f"the first {recipe.train_fraction:.0%} of the training images hold none of {names}"
        warnings.warn(f"train_fraction: {share}", stacklevel=3)
