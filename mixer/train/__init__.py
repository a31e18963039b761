"""Training: one loop for fine-tuning and pre-training, evaluation, the command line."""

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
from mixer.train.memory import pick_accumulation
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
