"""A run from its start, or its last state, to its end: what is checked, kept and written.

References:
  Tolstikhin et al., 2021, arXiv:2105.01601, appendix B (pre-training) and C (fine-tuning).
  google-research/vision_transformer, vit_jax/train.py (the official recipe).
"""

import copy
import json
import math
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from mixer.checkpoint import save_npz
from mixer.cost import activation_bytes
from mixer.data import ImageData
from mixer.files import StrPath, check_writable, format_error, locked, replacing, write_text
from mixer.model import MlpMixer
from mixer.train import distributed
from mixer.train.batches import Batches
from mixer.train.device import (
    COMPILE_MODES,
    GRAPH_MODES,
    check_compiler,
    describe_device,
    forked_rng,
    pick_device,
    pick_precision,
    tf32,
)
from mixer.train.evaluation import evaluate
from mixer.train.loop import TrainingError, is_out_of_memory, train_steps
from mixer.train.optimizers import build_optimizers, check_optimizer
from mixer.train.recipes import Recipe, get_recipe


class UnreadablePhoto(ValueError): ...


def _identity(data):
    import zlib

    return {
        "classes": list(data.classes),
        "train": len(data.y_train),
        "test": len(data.y_test),
        "crc": zlib.crc32(data.y_train.numpy(force=True).tobytes()),
    }


STATE = "state.pt"

# Losses are read after so many steps, and before tests and states; on a CPU, where it costs
# nothing, after each.
READ_EVERY = 20

# What the activations of a part may take on a CPU, whose memory swaps before it is full: bytes.
CPU_ACTIVATIONS = 4e9

# Of fp16's gradient scaler, which starts at 2^16.
SMALLEST_SCALE = 2.0**-10

# What ends a run after its step: Ctrl-C, a scheduler, a closed terminal, a cluster's warning.
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop, and did; ``status`` is what a shell expects of its process."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.status = 128 + signum


@dataclass(frozen=True)
class Options:
    """How a run is carried out, beside its recipe: where, how fast, and what is kept.

    Raises:
        ValueError: a value that no run can have.
    """

    # ``None`` and "auto" take the best at hand; "fp32" is TF32 on a CUDA device.
    device: str | torch.device | None = None
    precision: str = "auto"
    # Run the model through ``torch.compile``; a text is its mode.
    compile: bool | str = False
    # Parts into which a batch is split to save memory; the result is the same, but for the draws of
    # dropout and stochastic depth, which are a part's own. ``None``: one, on a CPU as many as 4 GB
    # ask for; and more where the memory does not suffice.
    gradient_accumulation_steps: int | None = None
    # Steps after which the test set is scored, beside the end; ``None``: at the end only.
    eval_every: int | None = None
    eval_batch_size: int = 512
    # The run folder. It gets config.json, metrics.jsonl, TensorBoard's scalars, state.pt (to go on
    # from), best.npz and model.npz (official layout), history.json and curves.png.
    output_dir: StrPath | None = None
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
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name}: expected a positive integer, found {value}")
        if isinstance(self.compile, str) and self.compile not in COMPILE_MODES:
            known = ", ".join(COMPILE_MODES)
            raise ValueError(f"compile: expected one of {known}, found {self.compile!r}")

    def check(self, recipe: Recipe) -> None:
        """Whether this machine can do it; needs neither model nor data.

        Raises:
            ValueError: it cannot; says why.
        """
        pick_precision(pick_device(self.device), self.precision)
        check_optimizer(recipe)
        size, processes = recipe.batch_size, distributed.world_size()
        parts = self.gradient_accumulation_steps or 1
        if size % processes:
            raise ValueError(
                f"batch_size: expected a multiple of the {processes} processes, found {size}"
            )
        if parts > size // processes:
            expected = f"at most the {size // processes} images of a process"
            raise ValueError(f"gradient_accumulation_steps: expected {expected}, found {parts}")
        # The memory of CUDA graphs is used again by the next part of a batch.
        if self.compile in GRAPH_MODES and (processes > 1 or parts > 1):
            expected = "default with accumulation or several processes"
            raise ValueError(f"compile: expected {expected}, found {self.compile}")
        if self.compile:
            check_compiler(pick_device(self.device))


@dataclass
class History:
    """What a run measured; plots take it as it is.

    Attributes:
        steps, loss, lr: a number for each step, steps counted from 0; the rate that it was made at.
        eval_steps, test_accuracy, test_loss: of each test, after so many steps.
        images_per_second: of training alone, without tests and files and without the first step of
            each process, which compiles: ``timed_steps`` in ``timed_seconds``.
        seconds: of training alone, with those first steps.
        wall_seconds: with tests and files too; of a run that was killed, from its last state on.
        skipped_steps: of fp16, those whose gradient was infinite: they changed no weight.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    eval_steps: list[int] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    images_per_second: float = 0.0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    timed_steps: int = 0
    timed_seconds: float = 0.0
    skipped_steps: list[int] = field(default_factory=list)

    def lines(self, first_step: int = 0, first_test: int = 0) -> list[dict[str, Any]]:
        """What metrics.jsonl says of the steps and tests from these on, steps counted from 1."""
        found: list[dict[str, Any]] = []
        for index in range(first_step, len(self.steps)):
            line = {"step": self.steps[index] + 1, "loss": self.loss[index], "lr": self.lr[index]}
            skipped = {"skipped": True} if self.steps[index] in self.skipped_steps else {}
            found.append({**line, **skipped})
        for index in range(first_test, len(self.eval_steps)):
            accuracy, loss = self.test_accuracy[index], self.test_loss[index]
            line = {"step": self.eval_steps[index], "test_accuracy": accuracy, "test_loss": loss}
            found.append(line)
        return sorted(found, key=lambda line: line["step"])

    def curves(self, windows: int = 100) -> dict[str, list[float]]:
        """What a plot of the run needs, in few numbers, for files that keep it.

        Every test accuracy, and the training loss as means over at most ``windows`` windows of
        steps, each at its last step (counted from 1, as the tests are).
        """
        size = max(1, -(-len(self.loss) // windows))
        parts = [self.loss[start : start + size] for start in range(0, len(self.loss), size)]
        return {
            "steps": [size * index + len(part) for index, part in enumerate(parts)],
            "loss": [round(sum(part) / len(part), 4) for part in parts],
            "eval_steps": list(self.eval_steps),
            "test_accuracy": [round(accuracy, 4) for accuracy in self.test_accuracy],
        }


class Run:
    """A run in progress: what a step needs and changes, and the files that are kept of it.

    Process 0 alone has bar and files.

    Args:
        model, data, recipe, options: as ``train`` takes them; the model is moved to the device.
    """

    def __init__(self, model: MlpMixer, data: ImageData, recipe: Recipe, options: Options) -> None:
        self.recipe, self.options = recipe, options
        self.first = distributed.rank() == 0
        self.folder: Path | None = None
        if self.first and options.output_dir is not None:
            self.folder = Path(options.output_dir)
        self.device = pick_device(options.device)
        self.precision = pick_precision(self.device, options.precision)
        self.settings = {
            "recipe": asdict(recipe),
            "model": asdict(model.config),
            "data": _identity(data),
            "precision": self.precision,
            "origin": options.origin,
        }
        self.model = model.to(self.device).train()
        self.data = data.to(self.device)
        self.batches = Batches(self.data, recipe, model.config)
        self.optimizers = build_optimizers(model, recipe, fused=self.precision != "fp16")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.average: MlpMixer | None = None
        if recipe.ema_decay:
            self.average = copy.deepcopy(model).requires_grad_(False)
        # The model that is called: in DDP, compiled, or itself.
        self.forward: Any = model
        if distributed.world_size() > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            self.forward = DistributedDataParallel(model, device_ids=devices)
        self.no_exchange = getattr(self.forward, "no_sync", nullcontext)
        if options.compile:
            # Of eight versions of a function torch compiles no further one, without a word.
            torch.compiler.reset()
            mode = options.compile if isinstance(options.compile, str) else None
            self.forward = torch.compile(self.forward, mode=mode, dynamic=False)
        self.parts = options.gradient_accumulation_steps or self._parts_on_a_cpu()
        self.step = self.started_at = 0
        self.history = History()
        self.last_good_state = "no state had been written yet"
        # The signal that asks this process to stop; and whether any process was asked.
        self.asked, self.stopping = 0, False
        self.read_every = 1 if self.device.type == "cpu" else READ_EVERY
        self._measured: list[tuple[int, float, Tensor, Tensor]] = []
        self._logged = (0, 0)
        self._clock = self._wall_clock = time.perf_counter()
        self.bar = tqdm(disable=True)

    def _parts_on_a_cpu(self) -> int:
        if self.device.type != "cpu":
            return 1
        size = self.recipe.batch_size // distributed.world_size()
        image = activation_bytes(self.model.config, self.precision, "cpu")
        parts = math.ceil(size / max(1, CPU_ACTIVATIONS // image))
        if parts > 1 and self.first:
            print(f"a batch goes in {parts} parts, of at most 4 GB of activations each")
        return parts

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """Those of all optimisers."""
        return (group for optimizer in self.optimizers for group in optimizer.param_groups)

    def weights(self) -> MlpMixer:
        """The model that counts: the averaged one, if weights are averaged."""
        return self.model if self.average is None else self.average

    def is_due(self, every: int | None) -> bool:
        """Whether something is done after this step that is done every so often, and at the end."""
        return self.step == self.recipe.num_steps or bool(every and self.step % every == 0)

    def note(self, step: int, rate: float, loss: Tensor, norm: Tensor) -> None:
        """A step is made; its loss and its gradient's norm stay on the device until ``read``."""
        self._measured.append((step, rate, loss, norm))
        self.step = step + 1

    def is_time_to_read(self) -> bool:
        """Every so often, before what needs it, and after the first step, which compiles.

        One process stops without waiting, several of them have to agree.
        """
        every = (self.read_every, self.options.eval_every, self.options.save_every)
        asked = self.asked and distributed.world_size() == 1
        return bool(asked or self.step == self.started_at + 1 or any(map(self.is_due, every)))

    def read(self) -> None:
        """Put what was measured since the last call into the history; waits for the device.

        Raises:
            TrainingError: a loss or a gradient was not finite; names the first such step.
        """
        if not self._measured:
            return
        steps, rates, losses, norms = zip(*self._measured, strict=True)
        measured = torch.stack([torch.stack(losses), torch.stack(norms)]).tolist()
        now = time.perf_counter()
        self._measured = []
        *loss, asked = distributed.all_sum([*measured[0], float(self.asked)], self.device)
        # With fp16 an infinite gradient is ordinary, until the scale is too small to be halved.
        may_skip = self.scaler.is_enabled() and self.scaler.get_scale() > SMALLEST_SCALE
        for step, value, norm in zip(steps, loss, measured[1], strict=True):
            if not (math.isfinite(value) and (math.isfinite(norm) or may_skip)):
                what = f"the loss is {value}, the norm of its gradient {norm}"
                raise self._diverged(step + 1, what)
        history, processes = self.history, distributed.world_size()
        history.steps += steps
        history.lr += rates
        history.loss += [value / processes for value in loss]
        pairs = zip(steps, measured[1], strict=True)
        history.skipped_steps += [step for step, norm in pairs if not math.isfinite(norm)]
        seconds = now - self._clock
        history.seconds += seconds
        if steps[0] != self.started_at:
            history.timed_steps += len(steps)
            history.timed_seconds += seconds
        timed = history.timed_steps, history.timed_seconds
        # There may be nothing but first steps to go by.
        made, spent = timed if timed[0] else (len(history.steps), history.seconds)
        history.images_per_second = made * self.recipe.batch_size / max(spent, 1e-9)
        self.stopping = asked > 0
        self._log()
        self._clock = time.perf_counter()

    def _diverged(self, step: int, what: str) -> TrainingError:
        advice = "Start again under another name with a lower learning rate or a longer warm-up"
        return TrainingError(f"step {step}: {what}; {self.last_good_state}. {advice}")

    def test(self) -> None:
        """Score the weights that count on the test set, every image once, over all processes.

        The model runs uncompiled: a compiler that is wrong would give a wrong accuracy.

        Raises:
            TrainingError: the loss is not finite, or the memory does not suffice.
        """
        own = slice(distributed.rank(), None, distributed.world_size())
        images, labels = self.data.x_test[own], self.data.y_test[own]
        count, size = len(self.data.y_test), self.options.eval_batch_size
        right = loss = 0.0
        try:
            if len(labels):
                scores = evaluate(
                    self.weights(), images, labels, batch_size=size, precision=self.precision
                )
                right, loss = scores.accuracy * len(labels), scores.loss * len(labels)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            fewer = f"--eval_batch_size {size // 2}" if size > 1 else "another device"
            held = f"out of memory while testing {size} images at a time"
            raise TrainingError(f"{held}; try {fewer}") from error
        right, loss = distributed.all_sum([right, loss], self.device)
        if not math.isfinite(loss):
            raise self._diverged(self.step, f"the loss on the test images is {loss} after it")
        history = self.history
        history.eval_steps.append(self.step)
        history.test_accuracy.append(round(right) / count)
        history.test_loss.append(loss / count)
        self._log()
        if self.folder and history.test_accuracy[-1] == max(history.test_accuracy):
            save_npz(self.weights(), self.folder / "best.npz")
        skipped = len(history.skipped_steps)
        also = f", {skipped} steps skipped by fp16's scaler so far" if skipped else ""
        if not self.bar.disable:
            accuracy = f"test accuracy {history.test_accuracy[-1]:.4f}"
            self.bar.write(f"step {self.step}: loss {history.loss[-1]:.4f}, {accuracy}{also}")
        self._clock = time.perf_counter()

    def save(self) -> None:
        """Write the state, whole or not at all.

        Raises:
            TrainingError: it holds a number that is not finite; the last one stays.
        """
        tensors = [*self.weights().parameters(), *self.model.parameters()]
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                tensors += [value for value in state.values() if torch.is_tensor(value)]
        if not torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
            raise self._diverged(self.step, "a weight is not finite after it")
        if self.folder is not None:
            self._note_wall_time()
            average = None if self.average is None else self.average.state_dict()
            state = {
                "settings": self.settings,
                "step": self.step,
                "parts": self.parts,
                "history": asdict(self.history),
                "scaler": self.scaler.state_dict(),
                "model": self.model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "average": average,
            }
            with replacing(self.folder / STATE) as file:
                torch.save(state, file)
            self._note_good_state()
        self._clock = time.perf_counter()

    def _note_good_state(self) -> None:
        self.last_good_state = (
            f"the state after step {self.step} is good and stays in {self.folder}"
        )

    def _note_wall_time(self) -> None:
        now = time.perf_counter()
        self.history.wall_seconds += now - self._wall_clock
        self._wall_clock = now

    def stop_if_asked(self) -> None:
        """Raise ``Stopped``, with the state written, if a signal asked for it."""
        total = self.recipe.num_steps
        if self.stopping and self.step < total:
            self.save()
            kept = f"; {self.folder / STATE} holds it" if self.folder else ""
            stopped = f"stopped after step {self.step} of {total}{kept}"
            raise Stopped(stopped, self.asked or signal.SIGTERM)

    def to_the_end(self) -> History:
        """Make the steps that are left; returns the history of all."""
        if self.options.resume:
            self._resume()
        self._open_folder()
        self.bar = tqdm(
            train_steps(self),
            total=self.recipe.num_steps,
            initial=self.step,
            disable=not (self.options.progress and self.first),
            unit="step",
            dynamic_ncols=True,
            mininterval=1.0,
        )
        self._clock = time.perf_counter()
        with _noted_signals(self):
            try:
                for _ in self.bar:
                    pass
            except UnreadablePhoto:
                self.read()
                self.save()
                raise
        self._note_wall_time()
        if self.average is not None:
            self.model.load_state_dict(self.average.state_dict())
        self.model.eval()
        self._close_folder()
        return self.history

    def _resume(self) -> None:
        """Go on from the state, if it is there; process 0 reads it for all."""
        path = Path(self.options.output_dir or ".") / STATE
        there = self.folder is not None and path.exists()
        saved = distributed.broadcast(_read_state(path) if there else None)
        if saved is None:
            return
        if differing := _differences(saved["settings"], self.settings):
            hint = "resume with what is there, or start a run under another name"
            raise ValueError(
                f"{path}: the run there has other settings: {'; '.join(differing)}; {hint}"
            )
        self.model.load_state_dict(saved["model"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        self.scaler.load_state_dict(saved["scaler"])
        self.history = History(**saved["history"])
        self.step = self.started_at = saved["step"]
        # Another number of parts adds up, and draws, in another order.
        if self.options.gradient_accumulation_steps is None:
            self.parts = saved["parts"]
        self._note_good_state()

    def _open_folder(self) -> None:
        """Write the settings and what was measured before; a killed run's later lines go."""
        if self.folder is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        # Nobody else writes here, so whoever began these files is no more.
        for left in self.folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)
        data = {"name": self.data.name, **self.settings["data"]}
        about = {"torch": torch.__version__, "device": describe_device(self.device)}
        config = {**self.settings, "data": data, **about, "classes": list(self.data.classes)}
        write_text(self.folder / "config.json", json.dumps(config, indent=1) + "\n")
        lines = [json.dumps(line) + "\n" for line in self.history.lines()]
        write_text(self.folder / "metrics.jsonl", "".join(lines))
        self._logged = len(self.history.steps), len(self.history.eval_steps)
        self.board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step + 1)

    def _log(self) -> None:
        """Show and write what is new in the history."""
        history = self.history
        lines = history.lines(*self._logged)
        self._logged = len(history.steps), len(history.eval_steps)
        shown = {
            "loss": f"{history.loss[-1]:.3f}",
            "images_per_s": round(history.images_per_second),
        }
        if history.test_accuracy:
            shown["accuracy"] = f"{history.test_accuracy[-1]:.4f}"
        self.bar.set_postfix(shown, refresh=False)
        if self.folder is None:
            return
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        for line in lines:
            for name, tag in _SCALARS.items():
                if name in line:
                    self.board.add_scalar(tag, line[name], line["step"])

    def _close_folder(self) -> None:
        """Write the model in the official layout and the history, then draw the curves."""
        if self.folder is None:
            return
        self.board.close()
        history = self.history
        save_npz(self.model, self.folder / "model.npz")
        write_text(self.folder / "history.json", json.dumps(asdict(history)))
        try:
            from mixer import drawing

            figure = drawing.training(
                history.steps,
                history.loss,
                history.eval_steps,
                history.test_accuracy,
                chance=1 / len(self.data.classes),
            )
            drawing.save_figure(figure, self.folder / "curves.png")
        except Exception as error:  # The results are there; matplotlib may raise anything.
            warnings.warn(f"{self.folder}: no curves.png ({format_error(error)})", stacklevel=2)


_SCALARS = {"loss": "train/loss", "lr": "train/lr", "test_accuracy": "test/accuracy"}


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
            settings, or another process is at work on the same run; ``UnreadablePhoto``, once the
            state was written.
        TrainingError: the loss is not finite, or the memory does not suffice.
        OSError: the run folder cannot be written.
        KeyboardInterrupt: a signal (``Stopped``), once the step was finished and the state written.
    """
    options = replace(options or Options(), **changes)
    options.check(recipe)
    _check_inputs(model, data, recipe)
    device = pick_device(options.device)
    with ExitStack() as stack:
        if options.output_dir is not None and distributed.rank() == 0:
            stack.enter_context(_own_folder(Path(options.output_dir), options.resume))
        stack.enter_context(forked_rng(device))
        stack.enter_context(tf32(device))
        return Run(model, data, recipe, options).to_the_end()


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


def _check_inputs(model: MlpMixer, data: ImageData, recipe: Recipe) -> None:
    if other := {p.dtype for p in model.parameters()} - {torch.float32}:
        hint = "model.float() makes them such, and precision says what they are computed in"
        raise ValueError(f"model: expected float32 weights, found {other.pop()}; {hint}")
    if len(data.classes) > model.config.num_classes:
        found = f"{data.name} has {len(data.classes)}, the head only {model.config.num_classes}"
        raise ValueError(f"classes: {found}; make the model with num_classes={len(data.classes)}")
    for rate in ("dropout", "stochastic_depth"):
        wanted, built = getattr(recipe, rate), getattr(model.config, rate)
        if wanted and wanted != built:
            found = f"the recipe says {wanted}, but the model was built with {built}"
            raise ValueError(f"{rate}: {found}; build it so")
    used = int(len(data.y_train) * recipe.train_fraction)
    if used < 1 or not len(data.y_test):
        found = f"{len(data.y_train)} to train on ({recipe.train_fraction:.0%} are used)"
        raise ValueError(f"data: expected images, found {found}, {len(data.y_test)} to test")
    unseen = set(data.y_train.tolist()) - set(data.y_train[:used].tolist())
    if unseen:
        names = ", ".join(data.classes[label] for label in sorted(unseen))
        share = f"the first {recipe.train_fraction:.0%} of the training images hold none of {names}"
        warnings.warn(f"train_fraction: {share}", stacklevel=3)


@contextmanager
def _own_folder(path: Path, resume: bool) -> Iterator[None]:
    """Inside, no other process writes this run; a run that is there is not overwritten."""

    def refuse() -> None:
        hint = "wait for it, or choose another name"
        raise ValueError(f"{path}: another process is at work on this run; {hint}")

    check_writable(path, "run folder")
    with locked(path / f".{STATE}.lock", refuse):
        # state.npz is of a version before this one, which cannot go on with it.
        held = [name for name in (STATE, "state.npz", "model.npz") if (path / name).exists()]
        if held and not (resume and held[0] == STATE):
            hint = "resume goes on with it" if held[0] == STATE else f"its {held[0]} would be lost"
            raise ValueError(f"{path}: holds a run; {hint}, another name starts a new one")
        yield


def _read_state(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch and pickle raise many kinds
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: damaged ({reason}); start again under another name") from error


def _differences(saved: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The settings that differ, each as ``name: then, now``."""
    found = []
    for name in {**saved, **now}:
        before, value = saved.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            # "train" of the data is not the run's.
            found += _differences(before, value, "data." if name == "data" else "")
        elif before != value:
            found.append(f"{prefix}{name}: {before} there, {value} now")
    return found


@contextmanager
def _noted_signals(run: Run) -> Iterator[None]:
    """Inside, signals are noted, and the step at hand is finished; a second one stops at once."""

    def ask(signum: int, frame: object) -> None:
        # torchrun hands on a signal that each process had already.
        if run.asked and distributed.world_size() == 1:
            raise Stopped("stopped at once", signum)
        run.asked = signum

    before: dict[int, Any] = {}
    for number in [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]:
        # Ignored ones stay so, as nohup wants; outside the main thread none arrives.
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
