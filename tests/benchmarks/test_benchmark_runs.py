"""The list of runs: what is done is skipped, what fails is noted, what is outdated goes."""

import contextlib
import json
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mixer.train import Recipe

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"model": "M", "dataset": "d", "seed": 1, "recipe_settings": {"warmup_steps": 1}}


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def run(calls: list[int], accuracy: float | Exception, **changes: Any) -> Any:
    from runs import Run

    def make() -> dict[str, float]:
        calls.append(1)
        if isinstance(accuracy, Exception):
            raise accuracy
        return {"accuracy": accuracy}

    return Run({**SETTINGS, **changes}, "a run", make)


def test_what_is_done_is_skipped(tmp_path: Path) -> None:
    from runs import RunList, carry_out

    calls: list[int] = []
    path = tmp_path / "a.json"
    for _ in range(2):
        wanted = [run(calls, 0.5), run(calls, 0.6, seed=2)]
        assert carry_out(RunList(path, {"what": "w"}), wanted) == 0
    assert len(calls) == 2
    found = json.loads(path.read_text())
    assert found["what"] == "w" and "failed" not in found
    assert [entry["accuracy"] for entry in found["runs"]] == [0.5, 0.6]
    assert all(entry["date"] for entry in found["runs"])


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "other"},
        {"precision": "bf16"},
        {"num_steps": 7},
        {"recipe_settings": {"warmup_steps": 2}},
        {"machine": {"device": "cpu", "threads": 2}},
    ],
)
def test_another_setting_makes_another_run(change: dict[str, Any], tmp_path: Path) -> None:
    from runs import RunList

    machine = {"device": "cpu", "threads": 1, "torch": "2.14"}
    settings = {**SETTINGS, "precision": "fp32", "num_steps": 6, "machine": machine}
    runs = RunList(tmp_path / "a.json", {})
    runs.add(settings, {"accuracy": 0.5})
    runs = RunList(tmp_path / "a.json", {})
    assert runs.find(settings) is not None
    # Another version of torch is noted, but is no other machine.
    assert runs.find({**settings, "machine": {**machine, "torch": "2.15"}}) is not None
    assert runs.find({**settings, **change}) is None


def test_a_failing_run_is_noted_and_the_series_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from runs import RunList, carry_out

    path = tmp_path / "a.json"
    calls: list[int] = []
    wanted = [run(calls, RuntimeError("out of\nmemory")), run(calls, 0.6, seed=2)]
    assert carry_out(RunList(path, {}), wanted) == 1
    found = json.loads(path.read_text())
    assert [entry["seed"] for entry in found["runs"]] == [2]
    (failed,) = found["failed"]
    assert failed["error"] == "RuntimeError: out of memory" and failed["seed"] == 1
    assert "a run: not run: RuntimeError: out of memory" in capsys.readouterr().err
    assert carry_out(RunList(path, {}), [run(calls, ValueError("still"))]) == 1
    assert [entry["error"] for entry in json.loads(path.read_text())["failed"]] == [
        "ValueError: still"
    ]
    assert carry_out(RunList(path, {}), [run(calls, 0.7)]) == 0
    assert "failed" not in json.loads(path.read_text())


def test_runs_of_an_older_checkpoint_go(tmp_path: Path) -> None:
    from runs import RunList

    path = tmp_path / "a.json"
    for seed, digest in ((1, "old"), (2, "old"), (1, None)):
        RunList(path, {}).add({**SETTINGS, "seed": seed, "checkpoint_sha256": digest}, {})
    RunList(path, {}).add({**SETTINGS, "model": "N", "checkpoint_sha256": "other"}, {})
    RunList(path, {}).add({**SETTINGS, "checkpoint_sha256": "new"}, {})
    runs = json.loads(path.read_text())["runs"]
    # Runs from random weights have no checkpoint that could be old.
    assert [run["checkpoint_sha256"] for run in runs] == [None, "other", "new"]


def test_runs_that_do_not_say_how_they_were_made_go(tmp_path: Path) -> None:
    from runs import RunList

    path = tmp_path / "a.json"
    path.write_text(json.dumps({"runs": [{"model": "M", "accuracy": 0.9}]}))
    RunList(path, {}).add(SETTINGS, {"accuracy": 0.5})
    assert [run["accuracy"] for run in json.loads(path.read_text())["runs"]] == [0.5]


def test_settings_name_what_a_recipe_changes() -> None:
    from runs import settings_of, short_key

    recipe = Recipe(num_steps=9, warmup_steps=2, seed=3, mixup=0.2)
    settings = settings_of(recipe, "mine", {"device": "cpu"}, model="M")
    assert settings["recipe_settings"] == {"warmup_steps": 2, "mixup": 0.2}
    assert (settings["num_steps"], settings["batch_size"], settings["seed"]) == (9, 512, 3)
    assert settings["recipe"] == "mine" and settings["model"] == "M"
    assert short_key(settings) == short_key(json.loads(json.dumps(settings)))
    assert short_key(settings) != short_key({**settings, "seed": 4})


def test_two_processes_add_to_one_file(tmp_path: Path) -> None:
    from runs import RunList

    path = tmp_path / "results" / "a.json"
    one, other = RunList(path, {}), RunList(path, {})
    one.add(SETTINGS, {"accuracy": 0.5})
    other.note_failure({**SETTINGS, "seed": 2}, ValueError("no"))
    other.add({**SETTINGS, "seed": 3}, {"accuracy": 0.6})
    one.add({**SETTINGS, "seed": 4}, {"accuracy": 0.7})
    found = json.loads(path.read_text())
    assert [entry["accuracy"] for entry in found["runs"]] == [0.5, 0.6, 0.7]
    assert [entry["error"] for entry in found["failed"]] == ["ValueError: no"]


def test_time_that_was_up_at_the_end_of_a_run_ends_the_series(tmp_path: Path) -> None:
    """The signal itself came where a run was over and did not hear it."""
    from runs import RunList, carry_out, exit_status

    calls: list[int] = []

    def deaf() -> dict[str, float]:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(20)
        return {"accuracy": 0.5}

    wanted = [replace(run(calls, 0.5), make=deaf), run(calls, 0.6, seed=2)]
    runs = RunList(tmp_path / "a.json", {})
    assert exit_status(lambda: carry_out(runs, wanted), 0.2 / 60) == 130
    assert len(runs.runs) == 1 and not calls
    assert exit_status(lambda: carry_out(runs, wanted), 1) == 0 and len(calls) == 1


def test_a_state_goes_when_the_entry_stands(tmp_path: Path) -> None:
    from runs import RunList, carry_out

    path = tmp_path / "a.json"
    seen: list[bool] = []
    good = replace(run([], 0.5), done=lambda: seen.append("0.5" in path.read_text()))
    bad = replace(run([], ValueError("no"), seed=2), done=lambda: seen.append(False))
    assert carry_out(RunList(path, {}), [good, bad]) == 1
    assert seen == [True]


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_minutes_ask_to_stop(capsys: pytest.CaptureFixture[str], handler: Any) -> None:
    """Ignored, as in the background of a shell's script, the signal of the clock is still heard."""
    from runs import exit_status

    found = signal.signal(signal.SIGINT, handler)

    def long() -> int:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(0.01)
        return 0

    try:
        assert exit_status(long, minutes=0.001) == 130
        assert "the same command" in capsys.readouterr().err
        statuses = [exit_status(work, minutes=10) for work in (lambda: 0, lambda: 2)]
        assert statuses == [0, 1]
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, found)


def test_a_file_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import common

    path = tmp_path / "a.json"
    common.write({"numbers": [1, 2.5, -3], "texts": ["a", "b"]}, path)
    before = path.read_text()
    assert '"numbers": [1, 2.5, -3]' in before
    assert common.read(path) == {"numbers": [1, 2.5, -3], "texts": ["a", "b"]}
    assert common.read(tmp_path / "none.json") == {}
    with pytest.raises(TypeError):
        common.write({"a": object()}, path)
    assert path.read_text() == before and [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_failure_goes_once_the_run_that_it_was_of_is_made(tmp_path: Path) -> None:
    from runs import RunList

    path = tmp_path / "a.json"
    # Failed before precision and machine were known; another model stays.
    RunList(path, {}).note_failure({"model": "M", "recipe": "r"}, OSError("no network"))
    RunList(path, {}).note_failure({"model": "N", "recipe": "r"}, OSError("no network"))
    RunList(path, {}).add({**SETTINGS, "recipe": "r"}, {"accuracy": 0.5})
    assert [old["model"] for old in json.loads(path.read_text())["failed"]] == ["N"]
