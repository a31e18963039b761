"""Training: one loop for fine-tuning and pre-training, evaluation, the command line.

From the command line to the optimiser:

    cli, flags       what was asked for, decided and checked once
    options          how a run is carried out; recipes: how it trains, its learning rate included
    training         ``train`` and ``finetune``: what fits together is checked
    run              a run with its tests, bar and files (run_folder, curve), state and lock
    loop             the steps themselves; batches: what each trains on
    optimizers       by part of the model; stepping: a step that a flag may forbid; averaging
    evaluation       scores of any model; scoring: of the model in training
    device           device and precision; accumulation: what fits into memory; compiling
    distributed      what several processes do together
"""

from mixer.train.accumulation import pick_accumulation
from mixer.train.batches import Batches, batch_indices, seed_of
from mixer.train.device import (
    autocast,
    describe_machine,
    pick_device,
    pick_precision,
    tf32,
)
from mixer.train.errors import TrainingError
from mixer.train.evaluation import Evaluation, evaluate
from mixer.train.loop import Loop
from mixer.train.optimizers import build_optimizers
from mixer.train.options import Options
from mixer.train.recipes import RECIPES, Recipe, get_recipe
from mixer.train.run_folder import History
from mixer.train.training import finetune, train

__all__ = [
    "RECIPES",
    "Batches",
    "Evaluation",
    "History",
    "Loop",
    "Options",
    "Recipe",
    "TrainingError",
    "autocast",
    "batch_indices",
    "build_optimizers",
    "describe_machine",
    "evaluate",
    "finetune",
    "get_recipe",
    "pick_accumulation",
    "pick_device",
    "pick_precision",
    "seed_of",
    "tf32",
    "train",
]
