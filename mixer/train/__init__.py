"""Training: one loop for fine-tuning and pre-training, evaluation, the command line.

From the command line down to the optimiser, in nine rooms:

    cli             the flags: what was asked for, decided and checked once
    run             ``train`` and ``finetune``; a run's folder, state, log, resume and stops
    loop            the training step, in one function
    evaluation      scores over a whole set of images
    batches         what each step trains on
    optimizers      by part of the model
    recipes         how to train, the learning rate of each step included
    device          device and precision
    distributed     what several processes do together
"""
# ruff: noqa: F401  (what is imported here is what ``mixer.train`` offers)

from mixer.train.batches import Batches, batch_indices, seed_of
from mixer.train.device import autocast, describe_machine, pick_device, pick_precision, tf32
from mixer.train.evaluation import Evaluation, evaluate
from mixer.train.loop import TrainingError
from mixer.train.optimizers import build_optimizers
from mixer.train.recipes import RECIPES, Recipe, get_recipe
from mixer.train.run import History, Options, finetune, train
