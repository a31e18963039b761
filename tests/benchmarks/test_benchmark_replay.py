"""The bundled checkpoints' commands are run again, stopped, and compared with the record."""

import json
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mixer.checkpoint import bundled, bundled_names

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import replay

    return replay


def a_run(folder: Path, losses: list[float], ending: str = "time.sleep(60)") -> list[str]:
    """A command that writes some losses as a run does, half a line, and then waits or ends."""
    lines = [json.dumps({"step": k + 1, "loss": loss}) for k, loss in enumerate(losses)]
    lines.insert(1, json.dumps({"step": 1, "test_accuracy": 0.5}))
    text = "\n".join([*lines, '{"step": 99, "lo'])
    script = f"""
        import pathlib, sys, time
        run = pathlib.Path({str(folder)!r}) / "run"
        run.mkdir()
        (run / "metrics.jsonl").write_text({text!r})
        {ending}
    """
    return [sys.executable, "-c", textwrap.dedent(script)]


def test_a_run_is_stopped_once_its_losses_are_there(replay: ModuleType, tmp_path: Path) -> None:
    losses = [2.0, 1.5, 1.25, 1.0]
    command = a_run(tmp_path, losses)
    assert replay.first_losses(command, tmp_path, 3, patience=30) == losses[:3]


def test_why_a_run_ended_too_early_is_said(replay: ModuleType, tmp_path: Path) -> None:
    command = a_run(tmp_path, [2.0], ending="sys.exit('error: no such recipe')")
    with pytest.raises(RuntimeError, match=r"1 of 3 steps .* exit status 1: error: no such recipe"):
        replay.first_losses(command, tmp_path, 3, patience=30)


def test_patience_ends(replay: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="1 of 3 steps"):
        replay.first_losses(a_run(tmp_path, [2.0]), tmp_path, 3, patience=1)


def test_the_command_is_the_record_s_but_for_its_folder(replay: ModuleType, tmp_path: Path) -> None:
    made = "python -m mixer.train --name a --output_dir there --resume --recipe b"
    found = replay.command_of({"command": made}, tmp_path)
    assert found[0] == sys.executable
    kept = ["-m", "mixer.train", "--name", "a", "--recipe", "b"]
    assert found[1:] == [*kept, "--output_dir", str(tmp_path)]
    with pytest.raises(ValueError, match="expected python"):
        replay.command_of({"command": "rm -r here"}, tmp_path)


def test_the_commands_of_all_records_can_be_replayed(replay: ModuleType, tmp_path: Path) -> None:
    for name in bundled_names():
        record = json.loads(bundled(name).with_suffix(".json").read_text(encoding="utf-8"))
        found = replay.command_of(record, tmp_path)
        assert found[1:3] == ["-m", "mixer.train"] and found[-1] == str(tmp_path)


# How far the loss of a batch is from the trend.
BATCHES = np.random.default_rng(0).normal(0, 0.1, 200).tolist()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda k: 0.0, True),
        # A little of everything once rounding differs.
        (lambda k: 0.0002 * k * (-1) ** k, True),
        # Another seed: as low on average, but not the same losses.
        (lambda k: 0.05 * (-1) ** k, False),
        # Another seed where the first losses are those of guessing: ups and downs of its own.
        (lambda k: 0.0 if k < 10 else BATCHES[(k + 77) % 200] - BATCHES[k], False),
        # Another learning rate.
        (lambda k: 0.002 * k, False),
    ],
)
def test_what_counts_as_the_same(replay: ModuleType, change: Any, same: bool) -> None:
    recorded = [5.0 - 0.01 * k + BATCHES[k] for k in range(200)]
    found = replay.compare(recorded, [loss + change(k) for k, loss in enumerate(recorded)])
    assert found["same"] is same and found["steps"] == 200


def test_the_rounding_of_a_record_is_no_difference(replay: ModuleType) -> None:
    """A head that starts at zero: the first losses are all those of guessing."""
    found = replay.compare([2.3026] * 3, [2.30258512] * 2 + [2.30262])
    assert found["same"]
    assert not replay.compare([2.3026] * 3, [2.3026, 2.3026, 2.3061])["same"]


def test_a_record_without_losses_is_named_and_the_others_are_run(
    replay: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, losses in (("one", []), ("two", [2.0, 1.0])):
        record = {"command": "python -m mixer.train --name x", "first_losses": losses}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    monkeypatch.setattr(replay, "bundled", lambda name: tmp_path / f"{name}.npz")
    monkeypatch.setattr(replay, "bundled_names", lambda: ["one", "two"])
    monkeypatch.setattr(replay, "first_losses", lambda command, folder, steps, patience: [2.0, 1.0])
    output = tmp_path / "replay.json"
    monkeypatch.setattr(sys, "argv", ["replay.py", "one", "two", "--output", str(output)])
    assert replay.main() == 1
    found = json.loads(output.read_text())["replays"]
    assert found["one"]["error"] == "ValueError: one: its record has no first_losses"
    assert found["two"]["same"] and found["two"]["largest_difference"] == 0
    assert found.keys() == {"one", "two"}
    # Without names, those that can be compared.
    output.unlink()
    monkeypatch.setattr(sys, "argv", ["replay.py", "--output", str(output)])
    assert replay.main() == 0
    assert json.loads(output.read_text())["replays"].keys() == {"two"}
