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
from collections.abc import Iterator
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
from mixer.data import ImageData, UnreadablePhoto
from mixer.files import StrPath, check_writable, format_error, locked, replacing, write_text
from mixer.model import MlpMixer
from mixer.train import distributed
from mixer.train.batches import Batches
from mixer.train.device import (
    GRAPH_MODES,
    check_compile,
    describe_device,
    forked_rng,
    pick_device,
    pick_precision,
    tf32,
)
from mixer.train.evaluation import evaluate
from mixer.train.loop import TrainingError, train_steps
from mixer.train.optimizers import build_optimizers, check_optimizer
from mixer.train.recipes import Recipe, get_recipe

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


BOARD = {"loss": "train/loss", "lr": "train/lr", "test_accuracy": "test/accuracy"}


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop, and did; ``status`` is what a shell expects of its process."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.status = 128 + signum


@dataclass(frozen=True)
class Options:
    """How a run is carried out, beside its recipe: where, how fast, and what is kept."""

    # ``None`` and "auto" take the best at hand; "fp32" is TF32 on a CUDA device.
    device: str | torch.device | None = None
    precision: str = "auto"
    # Run the model through ``torch.compile``; a text is its mode.
    compile: bool | str = False
    # Parts into which a batch is split to save memory; the result is the same, but for the draws of
    # dropout and stochastic depth, which are a part's own. ``None``: one, on a CPU as many as 4 GB
    # of activations ask for; and more where the memory does not suffice.
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

    def check(self, recipe: Recipe) -> None:
        """Whether this machine can do it; needs neither model nor data.

        Raises:
            ValueError: it cannot, or no machine could; says why.
        """
        for name in ("eval_every", "save_every", "eval_batch_size", "gradient_accumulation_steps"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name}: expected a positive integer, found {value!r}")
        check_optimizer(recipe)
        device = pick_device(self.device)
        pick_precision(device, self.precision)
        parts, processes = self.gradient_accumulation_steps or 1, distributed.world_size()
        own, rest = divmod(recipe.batch_size, processes)
        if rest:
            raise ValueError(f"batch_size: expected a multiple of the {processes} processes")
        if parts > own:
            raise ValueError(f"gradient_accumulation_steps: expected at most {own}, found {parts}")
        # The memory of CUDA graphs is used again by the next part of a batch.
        if self.compile in GRAPH_MODES and processes * parts > 1:
            raise ValueError(f"compile: {self.compile} takes one process, and batches in one part")
        if self.compile:
            check_compile(self.compile, device)


@dataclass
class History:
    """What a run measured; plots take it as it is.

    Attributes:
        steps, loss, lr: a number for each step, steps counted from 0; the rate that it was made at.
        eval_steps, test_accuracy, test_loss: of each test, after so many steps.
        seconds: of training alone, without tests and files.
        images_per_second: the same, of all processes, without its first step, which compiles.
        wall_seconds: with tests and files too; of a run that was killed, from its last state on.
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

    def lines(self) -> list[dict[str, Any]]:
        """Those of metrics.jsonl, where steps count from 1: a step before the test after it."""
        steps = zip(self.steps, self.loss, self.lr, strict=True)
        tests = zip(self.eval_steps, self.test_accuracy, self.test_loss, strict=True)
        made = [{"step": step + 1, "loss": loss, "lr": lr} for step, loss, lr in steps]
        scored = [{"step": n, "test_accuracy": a, "test_loss": loss} for n, a, loss in tests]
        return sorted([*made, *scored], key=lambda line: line["step"])


class Run:
    """A run in progress: what a step needs and changes, and the files that are kept of it.

    Process 0 alone has bar and files.

    Args:
        model, data, recipe, options: as ``train`` takes them; the model is moved to the device.
    """

    def __init__(self, model: MlpMixer, data: ImageData, recipe: Recipe, options: Options) -> None:
        self.recipe, self.options = recipe, options
        self.device = pick_device(options.device)
        self.precision = pick_precision(self.device, options.precision)
        self.is_first = distributed.rank() == 0
        self.folder = Path(options.output_dir) if self.is_first and options.output_dir else None
        self.settings: dict[str, Any] = {
            "recipe": asdict(recipe),
            "model": asdict(model.config),
            "data": data.identity(),
            "precision": self.precision,
            "origin": options.origin,
        }
        self.model, self.data = model.to(self.device).train(), data.to(self.device)
        self.batches = Batches(self.data, recipe, model.config)
        self.optimizers = build_optimizers(model, recipe, fused=self.precision != "fp16")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.average = copy.deepcopy(model) if recipe.ema_decay else None
        # What is called in a step: the model, in DDP and compiled if asked for.
        self.forward: Any = model
        if distributed.world_size() > 1:
            self.forward = DistributedDataParallel(model)
        self.no_exchange = getattr(self.forward, "no_sync", nullcontext)
        if options.compile:
            # torch.compile silently stops compiling a function after eight versions of it.
            torch.compiler.reset()
            mode = None if options.compile is True else options.compile
            self.forward = torch.compile(self.forward, mode=mode, dynamic=False)
        self.parts = options.gradient_accumulation_steps or self._parts_on_a_cpu()
        self.history = History()
        self.step = self.started_at = 0
        # The signal that asked this process to stop; whether any process was asked to.
        self.asked, self.stopping = 0, False
        self.read_every = 1 if self.device.type == "cpu" else READ_EVERY
        self.bar = tqdm(disable=True)
        self._measured: list[tuple[int, float, Tensor, Tensor]] = []
        self._timed_steps, self._timed_seconds = 0, 0.0
        self._clock = self._began = time.perf_counter()

    def _parts_on_a_cpu(self) -> int:
        image = activation_bytes(self.model.config, self.precision)
        own = self.recipe.batch_size // distributed.world_size()
        parts = math.ceil(own / max(1, CPU_ACTIVATIONS // image))
        return parts if self.device.type == "cpu" else 1

    def is_due(self, every: int | None) -> bool:
        """Whether what is done every so many steps, and at the end, is due after this one."""
        return self.step == self.recipe.num_steps or bool(every and self.step % every == 0)

    def note(self, step: int, rate: float, loss: Tensor, norm: Tensor) -> None:
        """A step is made; its loss and its gradient's norm stay on the device until ``read``."""
        self._measured.append((step, rate, loss, norm))
        self.step = step + 1

    def is_time_to_read(self) -> bool:
        """At intervals, before every test and save, and after the first step, which compiles.

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
        steps, rates, *numbers = map(list, zip(*self._measured, strict=True))
        losses, norms = torch.stack([torch.stack(some) for some in numbers]).tolist()
        seconds = time.perf_counter() - self._clock
        self._measured = []
        *sums, asked = distributed.all_sum([*losses, float(self.asked)], self.device)
        losses, self.stopping = [loss / distributed.world_size() for loss in sums], asked > 0
        # With fp16 an infinite gradient is ordinary, until the scale is too small to be halved.
        may_skip = self.scaler.is_enabled() and self.scaler.get_scale() > SMALLEST_SCALE
        for step, loss, norm in zip(steps, losses, norms, strict=True):
            if not (math.isfinite(loss) and (math.isfinite(norm) or may_skip)):
                raise self._diverged(step + 1, f"the loss is {loss}, its gradient's norm {norm}")
        history = self.history
        history.steps += steps
        history.lr += rates
        history.loss += losses
        history.seconds += seconds
        if steps[0] == self.started_at + 1:
            # The step before these compiled, and counts only where there is no other.
            self._timed_steps, self._timed_seconds = 0, 0.0
        self._timed_steps += len(steps)
        self._timed_seconds += seconds
        history.images_per_second = self._timed_steps * self.recipe.batch_size / self._timed_seconds
        speed = round(history.images_per_second)
        self.bar.set_postfix(loss=losses[-1], images_per_s=speed, refresh=False)
        self._log(History(steps, losses, rates))

    def _diverged(self, step: int, what: str) -> TrainingError:
        kept = ""
        if self.folder and (self.folder / STATE).exists():
            kept = f"; {self.folder / STATE} holds the last good state"
        advice = "start again with a lower learning rate or a longer warm-up"
        return TrainingError(f"step {step}: {what}{kept}; {advice}")

    def test(self) -> None:
        """Score the weights that count on the test set, every image once, over all processes.

        The model runs uncompiled: a compiler that is wrong would give a wrong accuracy.

        Raises:
            TrainingError: the loss is not finite.
        """
        weights, history = self.average or self.model, self.history
        own = slice(distributed.rank(), None, distributed.world_size())
        images, labels = self.data.x_test[own], self.data.y_test[own]
        right = loss = count = 0.0
        if len(labels):
            size, kind = self.options.eval_batch_size, self.precision
            try:
                scores = evaluate(weights, images, labels, batch_size=size, precision=kind)
            except (torch.OutOfMemoryError, MemoryError) as error:
                self.save()
                hint = f"resume with an --eval_batch_size below {size}"
                raise TrainingError(f"out of memory in a test; {hint}") from error
            count = scores.num_images
            right, loss = round(scores.accuracy * count), scores.loss * count
        right, loss, count = distributed.all_sum([right, loss, count], self.device)
        if not math.isfinite(loss):
            raise self._diverged(self.step, f"the loss on the test images is {loss} after it")
        accuracy = right / count
        history.eval_steps.append(self.step)
        history.test_accuracy.append(accuracy)
        history.test_loss.append(loss / count)
        self._log(History([], [], [], [self.step], [accuracy], [loss / count]))
        if self.folder and accuracy == max(history.test_accuracy):
            save_npz(weights, self.folder / "best.npz")
        if not self.bar.disable:
            self.bar.write(f"step {self.step}: test accuracy {accuracy:.4f}")
        self._clock = time.perf_counter()

    def save(self) -> None:
        """Write the state, whole or not at all.

        Raises:
            TrainingError: it holds a number that is not finite; the last one stays.
        """
        average = None if self.average is None else self.average.state_dict()
        tensors = [*self.model.state_dict().values(), *(average or {}).values()]
        for optimizer in self.optimizers:
            tensors += [value for state in optimizer.state.values() for value in state.values()]
        if not all(tensor.isfinite().all() for tensor in tensors if torch.is_tensor(tensor)):
            raise self._diverged(self.step, "a weight is not finite after it")
        if self.folder is not None:
            self.history.wall_seconds = time.perf_counter() - self._began
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
        self._clock = time.perf_counter()

    def stop_if_asked(self) -> None:
        """Raise ``Stopped``, with the state written, if a signal asked for it."""
        if self.stopping and self.step < self.recipe.num_steps:
            self.save()
            stopped = f"stopped after step {self.step} of {self.recipe.num_steps}"
            raise Stopped(stopped, self.asked or signal.SIGTERM)

    def resume(self) -> None:
        """Go on from the state, if it is there; each process reads it.

        Raises:
            ValueError: it is damaged, or of a run with other settings.
        """
        path = Path(self.options.output_dir or "") / STATE
        if self.options.output_dir is None or not path.exists():
            return
        saved = _read_state(path)
        if differing := _differences(saved["settings"], self.settings):
            hint = "resume with what is there, or start a run under another name"
            raise ValueError(f"{path}: the run has other settings: {'; '.join(differing)}; {hint}")
        self.model.load_state_dict(saved["model"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        self.scaler.load_state_dict(saved["scaler"])
        self.history = History(**saved["history"])
        self.step = self.started_at = saved["step"]
        self._began -= self.history.wall_seconds
        # Another number of parts adds up, and draws, in another order.
        self.parts = self.options.gradient_accumulation_steps or saved["parts"]

    def open_folder(self) -> None:
        """Write the settings and what was measured before; a killed run's later lines go."""
        if self.folder is None:
            return
        # Nobody else writes here, so whoever began these files is no more.
        for left in self.folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)
        data = {"name": self.data.name, **self.settings["data"]}
        about = {"torch": torch.__version__, "device": describe_device(self.device)}
        config = {**self.settings, **about, "data": data, "classes": data["classes"]}
        write_text(self.folder / "config.json", json.dumps(config, indent=1) + "\n")
        lines = [json.dumps(line) + "\n" for line in self.history.lines()]
        write_text(self.folder / "metrics.jsonl", "".join(lines))
        from torch.utils.tensorboard import SummaryWriter

        self.board = SummaryWriter(self.folder / "tensorboard", purge_step=self.step + 1)

    def _log(self, new: History) -> None:
        if self.folder is not None:
            with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in new.lines())
            for line in new.lines():
                for name in BOARD.keys() & line.keys():
                    self.board.add_scalar(BOARD[name], line[name], line["step"])
        self._clock = time.perf_counter()

    def finish(self) -> None:
        """Leave the weights that count in the model, then write results, and last the picture."""
        history = self.history
        # The last test of a run that was resumed at its end may not have come to its own.
        if history.eval_steps[-1:] != [self.step]:
            self.test()
        history.wall_seconds = time.perf_counter() - self._began
        if self.average is not None:
            self.model.load_state_dict(self.average.state_dict())
        self.model.eval()
        if self.folder is None:
            return
        self.board.close()
        save_npz(self.model, self.folder / "model.npz")
        write_text(self.folder / "history.json", json.dumps(asdict(history)))
        measured = history.steps, history.loss, history.eval_steps, history.test_accuracy
        try:
            from mixer import drawing

            figure = drawing.training(*measured, chance=1 / len(self.data.classes))
            drawing.save_figure(figure, self.folder / "curves.png")
        except Exception as error:  # The results are written; matplotlib may raise anything.
            warnings.warn(f"{self.folder}: no curves.png ({format_error(error)})", stacklevel=3)


def _differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The settings that differ, each in words."""
    found = []
    for name, value in now.items():
        if isinstance(value, dict):
            found += _differences(then.get(name, {}), value)
        elif then.get(name) != value:
            found.append(f"{name}: {then.get(name)} there, {value} now")
    return found


def train(
    model: MlpMixer, data: ImageData, recipe: Recipe, options: Options | None = None, **changes: Any
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
    with ExitStack() as stack:
        if options.output_dir is not None and distributed.rank() == 0:
            stack.enter_context(_own_folder(Path(options.output_dir), options.resume))
        stack.enter_context(forked_rng(pick_device(options.device)))
        stack.enter_context(tf32(pick_device(options.device)))
        run = Run(model, data, recipe, options)
        if options.resume:
            run.resume()
        run.open_folder()
        hidden = not (options.progress and run.is_first)
        look = {"unit": "step", "dynamic_ncols": True, "mininterval": 1.0, "disable": hidden}
        run.bar = tqdm(train_steps(run), total=recipe.num_steps, initial=run.step, **look)
        stack.enter_context(_signals_noted(run))
        try:
            for _ in run.bar:
                pass
        except UnreadablePhoto:
            # Of several processes the others are in the midst of a step.
            if distributed.world_size() == 1:
                run.read()
                run.save()
            raise
        run.finish()
    return run.history


def finetune(
    model: MlpMixer, data: ImageData, recipe: str | Recipe = "cifar10-100_500", **options: Any
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
        raise ValueError(f"model: expected float32 weights, found {other.pop()}; see precision=")
    needed, there = len(data.classes), model.config.num_classes
    if needed > there:
        raise ValueError(f"model: expected {needed} classes, as {data.name} has, found {there}")
    for rate in ("dropout", "stochastic_depth"):
        wanted, built = getattr(recipe, rate), getattr(model.config, rate)
        if wanted not in (0, built):
            raise ValueError(f"{rate}: expected a model built with {wanted}, found {built}")
    if not int(len(data.y_train) * recipe.train_fraction):
        raise ValueError(f"train_fraction: {recipe.train_fraction} leaves no image to train on")


@contextmanager
def _own_folder(path: Path, resume: bool) -> Iterator[None]:
    """Inside, no other process writes this run; a run that is there is not overwritten."""

    def refuse() -> None:
        raise ValueError(f"{path}: another process is at work on this run; choose another name")

    check_writable(path, "run folder")
    with locked(path / f".{STATE}.lock", refuse):
        # A version before this one wrote state.npz, and alone can go on with it.
        held = [name for name in (STATE, "state.npz", "model.npz") if (path / name).exists()]
        if held and not (resume and held[0] == STATE):
            raise ValueError(f"{path}: holds a run ({held[0]}); resume it, or choose another name")
        yield


def _read_state(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: damaged ({reason}); choose another name") from error


@contextmanager
def _signals_noted(run: Run) -> Iterator[None]:
    """Inside, signals are noted, and the step at hand is finished; a second one stops at once."""

    def ask(signum: int, frame: object) -> None:
        # torchrun hands on a signal that each process had already.
        if run.asked and distributed.world_size() == 1:
            raise Stopped("stopped at once", signum)
        run.asked = signum

    before: dict[int, Any] = {}
    # Outside the main thread no signal arrives, and Windows lacks some.
    is_main = threading.current_thread() is threading.main_thread()
    for number in [getattr(signal, name, None) for name in SIGNALS if is_main]:
        # One that is ignored stays so, as ``nohup`` wants.
        if number and signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
