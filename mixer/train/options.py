"""How a run is carried out, beside its recipe."""

from dataclasses import dataclass
from pathlib import Path

import torch

from mixer.files import StrPath
from mixer.train import distributed
from mixer.train.compiling import COMPILE_MODES, GRAPH_MODES
from mixer.train.device import pick_device, pick_precision
from mixer.train.recipes import Recipe
from mixer.train.run_folder import STATE


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
    # "max-autotune" use CUDA graphs on a GPU, so that a small model does not wait for launches;
    # "blocks" compiles one block of a deep model instead of the whole.
    compile: bool | str = False
    # Parts into which a batch is split to save memory; the result is the same, but for the draws of
    # dropout and stochastic depth, which are a part's own. ``None``: as many as the free memory
    # asks for.
    gradient_accumulation_steps: int | None = None
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
    # Steps after which losses and gradients are read from the device, which waits for it; the bar
    # and the files show them then. ``None``: each step on a CPU, where it is free, else 20. Tests
    # and states are always preceded by a reading.
    read_every: int | None = None

    def __post_init__(self) -> None:
        counts = ("eval_every", "save_every", "eval_batch_size", "gradient_accumulation_steps")
        for name in (*counts, "read_every"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name}: expected a positive integer, found {value}")
        if isinstance(self.compile, str) and self.compile not in COMPILE_MODES:
            known = ", ".join(COMPILE_MODES)
            raise ValueError(f"compile: expected one of {known}, found {self.compile!r}")
        # Refused now; what they come to is worked out anew in a copy with other fields.
        _ = self.chosen_device, self.chosen_precision, self.state_path

    @property
    def chosen_device(self) -> torch.device:
        """The device that is asked for, or the best at hand."""
        return pick_device(self.device)

    @property
    def chosen_precision(self) -> str:
        """One of "fp32", "bf16" and "fp16": the one that is asked for, or the device's own."""
        return pick_precision(self.chosen_device, self.precision)

    @property
    def steps_a_reading(self) -> int:
        """``read_every``, or what suits the device."""
        return self.read_every or (1 if self.chosen_device.type == "cpu" else 20)

    @property
    def state_path(self) -> Path | None:
        """The file of the state, if there is one: in the run folder, or ``state_file``."""
        given = None if self.state_file is None else Path(self.state_file)
        if self.output_dir is None:
            return given
        own = Path(self.output_dir) / STATE
        if given not in (None, own):
            expected = f"none beside output_dir, where it is {own}"
            raise ValueError(f"state_file: expected {expected}, found {self.state_file}")
        return own


def check_batch(recipe: Recipe, options: Options) -> None:
    """Whether the batch can be shared out; needs neither model nor data.

    Raises:
        ValueError: it cannot; says why.
    """
    size, parts = recipe.batch_size, options.gradient_accumulation_steps or 1
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
