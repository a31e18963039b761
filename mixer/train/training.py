"""``train`` and ``finetune``: the loop with its tests, its files and its end.

References:
  Tolstikhin et al., 2021, arXiv:2105.01601, appendix B (pre-training) and C (fine-tuning).
  google-research/vision_transformer, vit_jax/train.py (the official recipe).
"""

import signal
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tqdm.auto import tqdm

from mixer.data import ImageData
from mixer.files import StrPath, check_writable
from mixer.model import MlpMixer
from mixer.train import distributed, state
from mixer.train.device import describe_device, pick_device, pick_precision, tf32
from mixer.train.loop import Loop
from mixer.train.recipes import Recipe, get_recipe
from mixer.train.run_folder import STATE, History, RunFolder

GRAPH_MODES = ("reduce-overhead", "max-autotune")
COMPILE_MODES = ("default", *GRAPH_MODES, "max-autotune-no-cudagraphs")


@dataclass(frozen=True)
class Options:
    """How a run is carried out, beside its recipe: where, how fast, and what is kept.

    Raises:
        ValueError: a device that is not here, or a value that no run can have.
    """

    # ``None`` and "auto" take the best at hand; "fp32" is TF32 on a CUDA device.
    device: str | torch.device | None = None
    precision: str = "auto"
    # Run the model through ``torch.compile``; a text is its mode. "reduce-overhead" and
    # "max-autotune" use CUDA graphs on a GPU, so that a small model does not wait for launches.
    compile: bool | str = False
    # Parts into which a batch is split to save memory; the result is the same.
    gradient_accumulation_steps: int = 1
    # Steps after which the test set is scored, beside the end; ``None``: at the end only.
    eval_every: int | None = None
    eval_batch_size: int = 512
    # The run folder. It gets config.json, metrics.jsonl, TensorBoard's scalars, state.npz (to go
    # on from), best.npz and model.npz (official layout), history.json and curves.png.
    output_dir: StrPath | None = None
    # Where to keep what is needed to go on; ``state.npz`` in the run folder if there is one.
    state_file: StrPath | None = None
    # Steps after which the state is written, beside the end.
    save_every: int | None = None
    # Go on from the state if it is there.
    resume: bool = False
    # What the weights are that the model starts with, such as a file's name and hash; kept with
    # the settings, so that a run is not resumed as another one's.
    origin: str | None = None
    # Whether to show a bar.
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("eval_every", "save_every", "eval_batch_size", "gradient_accumulation_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected a positive number, found {value}")
        if isinstance(self.compile, str) and self.compile not in COMPILE_MODES:
            known = ", ".join(COMPILE_MODES)
            raise ValueError(f"compile: expected one of {known}, found {self.compile!r}")
        device = pick_device(self.device)
        object.__setattr__(self, "precision", pick_precision(device, self.precision))
        object.__setattr__(self, "device", device)
        if self.output_dir is not None:
            object.__setattr__(self, "state_file", Path(self.output_dir) / STATE)


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
    and losses are those of a single process. Torch's global random generators are left as they
    were.

    Args:
        model, data: the head has at least as many classes as the data; images of another size are
            resized.
        recipe: how to train.
        options, changes: ``Options``, and any of its fields.

    Raises:
        ValueError: model, data, recipe and options do not fit together, or ``resume`` with other
            settings.
        TrainingError: the loss is not finite, or the memory does not suffice.
        OSError: the run folder cannot be written, or the disk is too full for the run.
        KeyboardInterrupt: Ctrl-C, once the step was finished and the state was written.
    """
    options = replace(options or Options(), **changes)
    check_batch(recipe, options)
    _check_inputs(model, data, recipe)
    device = options.device
    assert isinstance(device, torch.device)
    folder = _open_folder(model, recipe, options)
    model.to(device).train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        loop = Loop(
            model,
            data.to(device),
            recipe,
            options.precision,
            options.compile,
            options.gradient_accumulation_steps,
        )
        return _Run(loop, options, folder).to_the_end()


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


class _Run:
    """A loop with its tests, its bar and its files; process 0 alone has bar and files."""

    def __init__(self, loop: Loop, options: Options, folder: RunFolder | None) -> None:
        self.loop, self.options, self.folder = loop, options, folder
        self.first = distributed.rank() == 0
        recipe, config, data = loop.recipe, loop.model.config, loop.data
        origin = options.origin
        self.settings = state.settings_of(recipe, config, data, loop.precision, origin)
        self.shown: dict[str, str] = {}
        if options.resume:
            self._resume()
        if folder is not None:
            about = {"torch": torch.__version__, "device": describe_device(loop.device)}
            classes = list(data.classes)
            folder.open({**self.settings, **about, "classes": classes}, loop.history)

    def _resume(self) -> None:
        """Go on from the state, if it is there; process 0 reads it for all."""
        path = self.options.state_file
        if path is None:
            return
        there = self.first and Path(path).exists()
        found = distributed.broadcast(state.read_state(path) if there else None)
        if found is None:
            return
        arrays, meta = found
        saved = {name: meta.get(name) for name in self.settings}
        if differing := state.differences(saved, self.settings):
            others = "; ".join(differing)
            raise ValueError(f"{path}: the run there has other settings: {others}")
        self.loop.load(path, arrays, meta)

    def to_the_end(self) -> History:
        loop, total = self.loop, self.loop.recipe.num_steps
        with ExitStack() as stack:
            self.bar = stack.enter_context(self._bar(total))
            stack.enter_context(tf32(loop.device))
            interrupt = stack.enter_context(FinishStep())
            while loop.step < total:
                loss = loop.run_step()
                self._test_and_show(loss, done=loop.step == total)
                # The same answer in all processes.
                stop = distributed.all_sum([interrupt.asked], loop.device)[0] > 0
                self._save(loop.step == total or stop)
                if stop and loop.step < total:
                    raise KeyboardInterrupt(self._stopped(total))
        loop.finish()
        if self.folder is not None:
            chance = 1 / len(loop.data.classes)
            self.folder.finish(loop.history, loop.weights(), chance)
        return loop.history

    def _bar(self, total: int) -> tqdm:
        hidden = not (self.options.progress and self.first)
        look = {"unit": "step", "dynamic_ncols": True, "mininterval": 1.0}
        return tqdm(total=total, initial=self.loop.step, disable=hidden, **look)

    def _test_and_show(self, loss: float, done: bool) -> None:
        loop, every = self.loop, self.options.eval_every
        self.bar.update()
        if done or (every and loop.step % every == 0):
            accuracy = loop.test(self.options.eval_batch_size)
            self.shown["accuracy"] = f"{accuracy:.4f}"
            if not self.bar.disable:
                line = f"step {loop.step}: loss {loss:.4f}, test accuracy {accuracy:.4f}"
                self.bar.write(line)
        if loop.step % 10 == 0 or done:
            speed = f"{loop.images_per_second():.0f}"
            self.shown |= {"loss": f"{loss:.3f}", "images_per_s": speed}
            self.bar.set_postfix(self.shown)
        if self.folder is not None:
            self.folder.log(loop.history, loop.weights())

    def _save(self, must: bool) -> None:
        every, path = self.options.save_every, self.options.state_file
        if not (must or (every and self.loop.step % every == 0)):
            return
        self.loop.refuse_diverged()
        if path is not None and self.first:
            self.loop.save(path, self.settings)

    def _stopped(self, total: int) -> str:
        path = self.options.state_file
        kept = f"; {path} holds it, resume goes on from there" if path is not None else ""
        return f"stopped after step {self.loop.step} of {total}{kept}"


class FinishStep:
    """Ctrl-C asks to stop after the step at hand, which leaves a whole state; twice: at once."""

    asked = False

    def __enter__(self) -> "FinishStep":
        try:
            self.before = signal.signal(signal.SIGINT, self._ask)
        except ValueError:
            # Not the main thread, where no signal arrives.
            self.before = None
        return self

    def __exit__(self, *_: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        # torchrun hands on a signal that each process had already.
        if self.asked and distributed.world_size() == 1:
            raise KeyboardInterrupt
        self.asked = True


def _open_folder(model: MlpMixer, recipe: Recipe, options: Options) -> RunFolder | None:
    """The run folder, in process 0; whether the state can be written there."""
    if distributed.rank() != 0 or options.state_file is None:
        return None
    if options.output_dir is None:
        check_writable(Path(options.state_file).parent, "folder of the state")
        return None
    size = state.state_bytes(model, recipe)
    return RunFolder(Path(options.output_dir), size, options.resume)


def _check_inputs(model: MlpMixer, data: ImageData, recipe: Recipe) -> None:
    if len(data.classes) > model.config.num_classes:
        found = f"{data.name} has {len(data.classes)}, the head only {model.config.num_classes}"
        raise ValueError(f"classes: {found}; make the model with num_classes={len(data.classes)}")
    for rate in ("dropout", "stochastic_depth"):
        wanted, built = getattr(recipe, rate), getattr(model.config, rate)
        if wanted and wanted != built:
            found = f"the recipe says {wanted}, but the model was built with {built}"
            raise ValueError(f"{rate}: {found}; build it so")
    if int(len(data.x_train) * recipe.train_fraction) < 1 or not len(data.x_test):
        used = f"{len(data.x_train)} to train on ({recipe.train_fraction:.0%} are used)"
        raise ValueError(f"data: expected images, found {used}, {len(data.x_test)} to test")


def check_batch(recipe: Recipe, options: Options) -> None:
    """Whether the batch can be shared out; needs neither model nor data.

    Raises:
        ValueError: it cannot; says why.
    """
    size, parts = recipe.batch_size, options.gradient_accumulation_steps
    processes = distributed.world_size()
    if size < processes:
        expected = f"an image for each of {processes} processes"
        raise ValueError(f"batch size: expected {expected}, found {size}")
    if processes > 1 and size % (processes * parts):
        expected = f"a multiple of {processes} processes x {parts} accumulation steps"
        raise ValueError(f"batch size: expected {expected}, found {size}")
    # The memory of CUDA graphs is used again by the next part of a batch.
    if options.compile in GRAPH_MODES and (processes > 1 or parts > 1):
        expected = "default with accumulation or several processes"
        raise ValueError(f"compile: expected {expected}, found {options.compile}")
    if size % parts:
        expected = f"a divisor of the batch size {size}"
        raise ValueError(f"gradient_accumulation_steps: expected {expected}, found {parts}")
