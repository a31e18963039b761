"""The table of all accuracies: from the records and results, each with what it counts."""

import json

import pytest

import mixer
from mixer.lessons import account, evidence


def test_records_give_each_model_with_and_without_its_mirror_image() -> None:
    record = json.loads(
        mixer.bundled("Mixer-Nano_4-cifar10").with_suffix(".json").read_text(encoding="utf-8")
    )
    found = {row.recipe: row for row in account.of_records() if "finetune" in row.recipe}
    plain, mirrored = found.values()
    assert plain.shares == (record["accuracy"],)
    assert mirrored.shares == (record["accuracy_mirror_averaged"],)
    assert mirrored.recipe == f"{plain.recipe}, mirrored"
    assert (plain.steps, plain.images) == (record["recipe"]["num_steps"], record["test_images"])


def test_runs_that_differ_in_their_seed_stand_together() -> None:
    rows = account.of_results()
    runs = [evidence.results(name)["runs"] for name in ("cifar10", "transfer", "permutation")]
    assert sum(len(row.shares) for row in rows) == sum(map(len, runs))
    row = next(row for row in rows if row.recipe == "pre-trained, 500 labels")
    wanted = [r for r in runs[1] if r["start"] == "pre-trained" and r["labels"] == 500]
    assert sorted(row.shares) == sorted(r["accuracy"] for r in wanted)
    assert len({(row.model, row.recipe, row.steps) for row in rows}) == len(rows)


def test_a_line_says_model_recipe_steps_images_and_the_range_of_seeds() -> None:
    row = account.Accuracy("Mixer-S", "sgd", "here", 1200, 9728, (0.5, 0.7))
    text = row.line()
    assert text.split() == ["Mixer-S", "sgd", "1,200", "9,728", "60.00%", "(50.0–70.0)", "here"]
    assert "(" not in account.Accuracy("a", "b", "c", 1, 2, (0.5,)).line()


def test_the_table_holds_what_was_published_and_what_was_computed() -> None:
    mine = account.Accuracy("mine", "sgd", "here", 6, 300, (0.25,))
    lines = account.table([mine]).splitlines()
    assert lines[1] == mine.line()
    published = [line for line in lines if line.endswith("published")]
    assert len(published) == 4 and all(" 9,728 " in line for line in published)
    ends = {line.rindex(line.split()[-1]) for line in lines if not line.startswith("model")}
    assert len(ends) == 1, "columns must stand under each other"
    rows = [*account.of_results(), *account.of_records(), *account.published()]
    assert all(f"{row.recipe} " in row.line() for row in rows), "columns must not touch"


def test_few_labels_has_a_row_for_each_seed() -> None:
    sizes, by_start, chance = evidence.few_labels()
    assert sizes == [500, 5000] and chance == pytest.approx(0.1)
    runs = evidence.results("transfer")["runs"]
    for start, rows in by_start.items():
        assert [len(row) for row in rows] == [len(sizes)] * len(rows)
        wanted = {run["seed"]: run["accuracy"] for run in runs if run["start"] == start}
        assert len(rows) == len(wanted)
    one = next(run for run in runs if run["start"] == "from scratch" and run["seed"] == 1)
    assert by_start["from scratch"][1][sizes.index(one["labels"])] == one["accuracy"]


def test_runs_that_differ_in_more_than_their_seed_stand_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = {"model": "M", "recipe": "r", "dataset": "cifar10", "num_steps": 5, "test_images": 100}
    runs = [run | {"precision": "bf16", "accuracy": 0.5}, run | {"precision": "fp32"}]
    runs[1]["accuracy"] = 0.6
    stored = {"cifar10": {"runs": runs}, "transfer": {"runs": []}}
    stored["permutation"] = {"runs": [], "test_images": 1}
    monkeypatch.setattr(account, "results", stored.get)
    assert [row.shares for row in account.of_results()] == [(0.5,), (0.6,)]


def test_few_labels_of_a_series_that_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [
        ("pre-trained", 0, 500, 0.5),
        ("from scratch", 0, 500, 0.2),
        ("pre-trained", 1, 500, 0.6),
        ("pre-trained", 0, 5000, 0.7),
        # Made again: the last one counts.
        ("from scratch", 0, 500, 0.3),
    ]
    names = ("start", "seed", "labels", "accuracy")
    runs = [dict(zip(names, run, strict=True)) for run in made]
    monkeypatch.setattr(evidence, "results", lambda name: {"runs": runs, "classes": 10})
    sizes, by_start, _ = evidence.few_labels()
    assert sizes == [500]
    assert by_start == {"pre-trained": [[0.5], [0.6]], "from scratch": [[0.3]]}
