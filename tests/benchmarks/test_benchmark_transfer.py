"""The comparison with training from scratch: both ways are tuned, on labelled images alone."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mixer import data, train

ROOT = Path(__file__).resolve().parents[2]
LABELS = torch.arange(40) % 4


def make_data(train_images: int = 40) -> data.ImageData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = LABELS[:train_images]
    return data.ImageData(
        "tiny", images[:train_images], labels, images[:8], LABELS[:8], tuple("abcd")
    )


@pytest.fixture
def transfer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/transfer.py with short ladders and a training that takes no time."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import transfer
    import tuning

    searches = {
        way: tuning.Search(search.base, search.settings[:2], {1.0: rungs})
        for (way, search), rungs in zip(tuning.SEARCHES.items(), [(4, 8, 16), (2, 4)], strict=True)
    }
    for module in (transfer, tuning):
        monkeypatch.setattr(module, "SEARCHES", searches)
    monkeypatch.setattr(transfer, "load_data", lambda name: make_data())
    return transfer


class Pretended:
    """In the place of ``train``: a held-out accuracy by a rule, and what each call was given."""

    def __init__(self, rule: Callable[[train.Recipe], float]) -> None:
        self.rule, self.calls = rule, []

    def __call__(
        self, model: Any, images: data.ImageData, recipe: train.Recipe, **options: Any
    ) -> train.History:
        self.calls.append((model, images, recipe, options))
        accuracy = self.rule(recipe)
        model.eval()
        steps = list(range(recipe.num_steps))
        return train.History(
            steps=steps,
            loss=[1.0] * len(steps),
            eval_steps=[len(steps)],
            test_accuracy=[accuracy],
            test_loss=[1.0],
            seconds=2.0,
        )


@pytest.fixture
def command(
    transfer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    def call(*arguments: str) -> int:
        places = ["--output", str(tmp_path / "transfer.json"), "--state", str(tmp_path / "state")]
        places += ["--tuning", str(tmp_path / "transfer_tuning.json")]
        chosen = ["--fractions", "1.0", "--seeds", "2", "--no-compile"]
        monkeypatch.setattr(sys, "argv", ["transfer.py", *chosen, *places, *arguments])
        return transfer.main()

    return call


def better_with_rate(recipe: train.Recipe) -> float:
    """The higher rate is better; up to eight steps, more are."""
    return min(recipe.num_steps, 8) / 20 + 10 * recipe.learning_rate


def stored(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text())


def test_both_ways_are_tuned_and_compared(
    transfer: ModuleType,
    command: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretended = Pretended(better_with_rate)
    monkeypatch.setattr(transfer, "train", pretended)
    assert command() == 0
    runs = stored(tmp_path, "transfer")["runs"]
    found = {(run["start"], run["seed"]): run for run in runs}
    ways = (transfer.PRETRAINED, transfer.SCRATCH, transfer.AS_LONG)
    assert found.keys() == {(way, seed) for way in ways for seed in range(2)}
    # From scratch eight steps are as good as sixteen, fine-tuning goes to its ladder's end.
    steps = {way: found[way, 0]["num_steps"] for way in ways}
    assert steps == {transfer.PRETRAINED: 4, transfer.SCRATCH: 8, transfer.AS_LONG: 8}
    for (way, _), run in found.items():
        best = 6e-3 if way == transfer.SCRATCH else 3e-3
        assert run["recipe_settings"]["learning_rate"] == best
        assert run["images"] == run["num_steps"] * run["batch_size"] and run["seconds"] == 2.0
        assert (run["checkpoint_sha256"] is None) == (way == transfer.SCRATCH)
        assert run["test_images"] == 8 and run["labels"] == 40
    assert "curve" in found[transfer.SCRATCH, 0] and "curve" not in found[transfer.SCRATCH, 1]
    hours = stored(tmp_path, "transfer")["pre_training"]["hours"]
    assert hours > 0
    trials = stored(tmp_path, "transfer_tuning")["runs"]
    # Two settings on the first rung and one on each further one.
    assert len(trials) == (2 + 2) + (2 + 1)
    assert {trial["held_out_images"] for trial in trials} == {4}


def test_no_test_image_is_looked_at_while_recipes_are_chosen(
    transfer: ModuleType, command: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended = Pretended(better_with_rate)
    monkeypatch.setattr(transfer, "train", pretended)
    command()
    trials = [call for call in pretended.calls if len(call[1].x_train) < 40]
    assert len(trials) == 7
    known = {image.numpy().tobytes() for image in make_data().x_train}
    for _, images, _, _ in trials:
        kept, apart = ({i.numpy().tobytes() for i in x} for x in (images.x_train, images.x_test))
        assert kept | apart == known and not kept & apart
        assert sorted(images.y_test.tolist()) == [0, 1, 2, 3]


def test_what_is_done_is_skipped(
    transfer: ModuleType,
    command: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretended = Pretended(better_with_rate)
    monkeypatch.setattr(transfer, "train", pretended)
    command()
    before, calls = stored(tmp_path, "transfer"), len(pretended.calls)
    assert command() == 0
    assert len(pretended.calls) == calls and stored(tmp_path, "transfer") == before
    assert command("--steps", "4") == 0
    new = [call[2].num_steps for call in pretended.calls[calls:]]
    assert new and max(new) == 4


def test_a_setting_that_cannot_be_run_is_not_chosen(
    transfer: ModuleType,
    command: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def rule(recipe: train.Recipe) -> float:
        if recipe.learning_rate == 6e-3:
            raise train.TrainingError("the loss is nan")
        return better_with_rate(recipe)

    monkeypatch.setattr(transfer, "train", Pretended(rule))
    assert command() == 1
    assert stored(tmp_path, "transfer_tuning")["failed"][0]["error"].endswith("the loss is nan")
    scratch = [
        run for run in stored(tmp_path, "transfer")["runs"] if run["start"] == transfer.SCRATCH
    ]
    assert {run["recipe_settings"]["learning_rate"] for run in scratch} == {3e-3}


def test_each_way_starts_where_it_says(transfer: ModuleType) -> None:
    recipe = transfer.recipe_for(transfer.SCRATCH, 2, 0, {})
    ours, random = (
        transfer.starting_model(way, 4, recipe) for way in (transfer.PRETRAINED, transfer.SCRATCH)
    )
    stored = transfer.from_npz(transfer.bundled(transfer.MODEL))
    for model in (ours, random):
        assert model.head.weight.shape[0] == 4 and not model.head.weight.any()
    weights = [model.blocks[0].token_mixing.fc1.weight for model in (ours, random, stored)]
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs torch 2.9 or later")
def test_a_whole_call_that_really_trains(
    transfer: ModuleType,
    command: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe_for = transfer.recipe_for

    def small(*args: Any) -> train.Recipe:
        return replace(recipe_for(*args), batch_size=4)

    monkeypatch.setattr(transfer, "recipe_for", small)
    assert command("--steps", "2", "--seeds", "1") == 0
    runs = stored(tmp_path, "transfer")["runs"]
    assert [run["num_steps"] for run in runs] == [2, 2, 2]
    assert len({run["loss"] for run in runs}) >= 2
    assert not list((tmp_path / "state").glob("*.npz"))


def test_averages_and_warm_up_follow_the_steps(transfer: ModuleType) -> None:
    short, long = (transfer.recipe_for(transfer.SCRATCH, n, 0, {}) for n in (10, 2000))
    assert (short.ema_decay, long.ema_decay) == (0.0, 0.99)
    assert (short.warmup_steps, long.warmup_steps) == (1, 100)
    assert (
        short.from_scratch and not transfer.recipe_for(transfer.PRETRAINED, 9, 0, {}).from_scratch
    )


def test_a_cap_ends_every_ladder(transfer: ModuleType) -> None:
    from tuning import ladder

    assert ladder(transfer.SCRATCH, 1.0, None) == [4, 8, 16]
    assert ladder(transfer.SCRATCH, 1.0, 6) == [4, 6]
    assert ladder(transfer.SCRATCH, 1.0, 3) == [3]
    # A number of labels that has no ladder takes that of all labels.
    assert ladder(transfer.SCRATCH, 0.5, None) == [4, 8, 16]


def test_a_class_of_one_image_is_trained_on(transfer: ModuleType) -> None:
    part = transfer.held_out(make_data(train_images=5), seed=0)
    assert sorted(part.y_train.tolist()) == [0, 1, 2, 3] and part.y_test.tolist() == [0]
