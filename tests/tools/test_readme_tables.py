"""The README's tables and the figure of results show what the files of results say now."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from figures_tool import ROOT, figures
from matplotlib.figure import Figure

Stored = Callable[[list[dict[str, object]]], None]


def a_run(model: str, accuracy: float, **changes: object) -> dict[str, object]:
    """As benchmarks/reproduce.py writes it."""
    run = {
        "model": model,
        "upstream": "Tiny ImageNet-200 at 32 px, this project",
        "recipe": "cifar10-100_500",
        "precision": "bf16",
        "num_steps": 500,
        "batch_size": 512,
        "accuracy": accuracy,
        "test_images": 10_000,
        "accuracy_of_first_9728": accuracy + 0.001,
        "wall_seconds": 300.0,
        "machine": {"device": "Some GPU", "cuda": "13"},
    }
    return {**run, **changes}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stored:
    """Puts runs in the place of mixer/lessons/results/cifar10.json."""
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "cifar10.json")

    def store(runs: list[dict[str, object]]) -> None:
        (tmp_path / "cifar10.json").write_text(json.dumps({"runs": runs}))

    return store


CPU = {"device": "cpu", "processor": "Some processor", "cores": 4, "threads": 2}
SOME_RUNS = [
    a_run("Mixer-B_16", 0.95, recipe="colab", num_steps=100),
    a_run("Mixer-B_16", 0.9612),
    a_run("Mixer-B_16", 0.9622, wall_seconds=310.0),
    a_run("Mixer-L_16-21k", 0.98, recipe="official", num_steps=10_000, wall_seconds=9000.0),
    a_run(
        "Mixer-Nano_4",
        0.75,
        recipe="nano-finetune-cpu",
        num_steps=1000,
        batch_size=128,
        machine=CPU,
        wall_seconds=80.0,
    ),
]


def test_results_are_drawn_beside_what_was_published(
    results: Stored,
) -> None:
    rows = figures.accuracies()
    assert len(rows) == 4
    assert all(row["official"] > 0.96 and row["measured"] is None for row in rows)
    before = figures.DRAWINGS["mixer_result.png"].fingerprint()
    results(SOME_RUNS)
    rows = {row["label"]: row for row in figures.accuracies()}
    first = rows["Mixer-B/16, ImageNet"]
    assert first["official"] == 0.9672
    # The mean over the seeds of the longest runs
    assert first["measured"] == pytest.approx(0.9617)
    assert first["note"] == "500 steps, 2 seeds: 96.12 to 96.22 %"
    assert rows["Mixer-Nano_4,\nTiny ImageNet-200 at 32 px"]["official"] is None
    assert figures.DRAWINGS["mixer_result.png"].fingerprint() != before
    drawn = figures.DRAWINGS["mixer_result.png"].draw()
    texts = [text.get_text() for ax in drawn.axes for text in ax.texts]
    assert "published 96.72%, here 96.17%" in texts
    assert "published 96.59%, not run here yet" in texts
    assert "here 75.00%" in texts


def test_no_label_of_the_results_is_cut_off(results: Stored) -> None:
    long = [
        a_run("Mixer-L_16-21k", 0.98 + k / 1000, recipe="official", num_steps=10_000)
        for k in range(3)
    ]
    results([*long, *SOME_RUNS])
    fig = figures.DRAWINGS["mixer_result.png"].draw()
    fig.canvas.draw()
    boxes = [text.get_window_extent() for ax in fig.axes for text in ax.texts if text.get_text()]
    width, height = fig.bbox.width, fig.bbox.height
    for box in boxes:
        assert 4 < box.x0 < box.x1 < width - 4 and 4 < box.y0 < box.y1 < height - 4
    for index, box in enumerate(boxes):
        assert not any(box.padded(-1).overlaps(other.padded(-1)) for other in boxes[:index])


def test_table_of_results(results: Stored) -> None:
    head, _, *lines = figures.table().splitlines()
    assert len(lines) == 4
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        # Never a number
        assert cells[3:] == ["not yet run", "", "", "", ""]
    results(SOME_RUNS)
    head, _, *lines = figures.table().splitlines()
    assert {line.count("|") for line in (head, *lines)} == {9}
    assert lines == [
        "| ImageNet | Mixer-B/16 | 96.72 % | 96.17 % (96.12 to 96.22 %) of 10,000 images, 96.27 "
        "% of the first 9,728 | "
        "2 | 500 of 512 images (`cifar10-100_500`) | 5.1 min | Some GPU, bf16 |",
        "| ImageNet | Mixer-B/16 | 96.72 % | 95.00 % of 10,000 images, 95.10 % of the first "
        "9,728 | 1 "
        "| 100 of 512 images (`colab`) | 5.0 min | Some GPU, bf16 |",
        "| ImageNet | Mixer-L/16 | 96.59 % | not yet run |  |  |  |  |",
        "| ImageNet-21k | Mixer-B/16 | 96.82 % | not yet run |  |  |  |  |",
        "| ImageNet-21k | Mixer-L/16 | 96.34 % (98.34 % in their later version) | 98.00 % of "
        "10,000 images, 98.10 % of "
        "the first 9,728 | 1 | 10,000 of 512 images (`official`) | 2.5 h | Some GPU, bf16 |",
        "| Tiny ImageNet-200 at 32 px, this project | Mixer-Nano_4 | – | 75.00 % of 10,000 "
        "images | 1 "
        "| 1,000 of 128 images (`nano-finetune-cpu`) | 80 s | Some processor, 2 threads, bf16 |",
    ]


def test_the_readme_has_the_table_of_results(results: Stored) -> None:
    results(SOME_RUNS)
    assert {"README.md", "benchmarks/README.md"} <= set(figures.stale())
    readme, benchmarks = map(figures.with_tables, figures.TABLES_IN)
    assert figures.short_table() in readme and figures.table() in benchmarks
    first, *_, last = figures.short_table().splitlines()[2:]
    assert first == "| ImageNet | Mixer-B/16 | 96.72 % | 96.17 % | 2 |"
    assert last == "| Tiny ImageNet-200 at 32 px | Mixer-Nano_4 | – | 75.00 % | 1 |"
    assert max(map(len, figures.short_table().splitlines())) <= 100


def test_no_table_is_stale() -> None:
    pages = {path.relative_to(ROOT).as_posix() for path in figures.TABLES_IN}
    assert not pages & set(figures.stale()), "run python tools/figures.py"


def test_stale_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "IMG", tmp_path)
    # None there
    assert figures.stale() == list(figures.DRAWINGS)
    for name in figures.DRAWINGS:
        Figure(figsize=(1, 1)).savefig(tmp_path / name)
    # There, but drawn by something else
    assert figures.stale() == list(figures.DRAWINGS)
    for name in figures.DRAWINGS:
        figures.write(name, tmp_path)
    assert figures.stale() == []


def test_other_tables_come_from_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "cifar10.json")
    # Heads alone
    assert (
        len(figures.transfer_table().splitlines()) == len(figures.speed_table().splitlines()) == 2
    )
    runs = [
        {"labels": 500, "start": start, "accuracy": accuracy}
        for start, accuracies in (("pre-trained", (0.5, 0.6)), ("from scratch", (0.2, 0.3)))
        for accuracy in accuracies
    ]
    (tmp_path / "transfer.json").write_text(json.dumps({"runs": runs}))
    assert figures.transfer_table().splitlines()[-1] == (
        "| 500 | 55.0 % (50.00 to 60.00 %), 2 seeds | 25.0 % (20.00 to 30.00 %), 2 seeds |"
    )


def test_what_a_transfer_costs_stands_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "cifar10.json")
    run = {"labels": 500, "accuracy": 0.5, "num_steps": 2000, "seconds": 300.0}
    longer = "pre-trained, as long"
    runs = [{**run, "start": start} for start in ("pre-trained", "from scratch", longer)]
    found = {"runs": runs, "pre_training": {"steps": 46860, "hours": 2.4}}
    (tmp_path / "transfer.json").write_text(json.dumps(found))
    head, _, row, cost = figures.transfer_table().splitlines()
    assert head == f"| labelled images | pre-trained | from scratch | {longer} |"
    assert row.count("50.0 % (50.00 to 50.00 %), 1 seeds; 2,000 steps, 5.0 min") == 3
    assert cost == "|  | pre-training took 46,860 steps and 2.4 h |  |  |"


def test_speeds_of_every_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "cifar10.json")
    comparison = {
        "what": "training M",
        "rounds": 7,
        "sides": {
            "ours": {
                "images_per_second": {"median": 300.4},
                "share_of_a_large_product": {"median": 0.461},
            },
            "theirs": {"images_per_second": {"median": 100.0}},
        },
        "ratios": [
            {"side": "ours", "base": "theirs", "median": 3.004, "low": 2.5, "high": 3.5},
            {"side": "theirs", "base": "ours", "median": 0.333, "low": 0.3, "high": 0.4},
        ],
    }
    machines = {
        "cpu": {"device": "cpu", "processor": "P", "threads": 2, "cpu_capability": "AVX512"},
        "cuda": {"device": "G"},
    }
    for name, machine in machines.items():
        found = {"comparisons": {"nano": {**comparison, "machine": machine}}}
        (tmp_path / f"speed-{name}.json").write_text(json.dumps(found))
    first, second, *others = figures.speed_table().splitlines()[2:]
    where = "training M; P (AVX512), 2 threads; 7 rounds"
    assert first == f"| {where} | ours | 300 | 46 % | **3.00** × theirs | 2.50 to 3.50 |"
    assert second == f"| {where} | theirs | 100 |  | **0.33** × ours | 0.30 to 0.40 |"
    assert all("| training M; G; 7 rounds |" in line for line in others) and len(others) == 2


def test_the_speed_of_a_side_that_was_measured_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "cifar10.json")
    side = {"images_per_second": {"median": 4624.6}, "share_of_a_large_product": {"median": 0.447}}
    alone = {"what": "training M", "rounds": 1, "sides": {"ours": side}, "ratios": []}
    found = {"comparisons": {"b16": {**alone, "machine": {"device": "G"}}}}
    (tmp_path / "speed-cuda.json").write_text(json.dumps(found))
    assert figures.speed_table().splitlines()[2] == (
        "| training M; G; 1 round | ours | 4625 | 45 % |  |  |"
    )


def test_what_a_folder_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "cifar10.json")
    assert len(figures.folder_table().splitlines()) == 2
    speeds = {"batches": {"median": 1234.4}, "reading": {"median": 5678.0}}
    found = {
        "images": 100_000,
        "machine": {"device": "cpu", "processor": "P", "threads": 2},
        "decode": {"seconds": 180.0, "images_per_second": 567, "stored_gigabytes": 26.71},
        "start": {"seconds": 1.23, "seconds_to_first_batch": 2.34},
        "stream": {"images_per_second": speeds, "peak_gigabytes": 1.5},
        "train": {"images_per_second": {"median": 6.25}, "precision": "bf16"},
        "batches_over_training": 197.5,
    }
    (tmp_path / "folder_cache.json").write_text(json.dumps(found))
    rows = dict(line.strip("| ").split(" | ") for line in figures.folder_table().splitlines()[2:])
    assert rows["decoding 100,000 photos once"] == "3.0 min, 567 images/s, 26.7 GB kept"
    assert rows["starting again"] == "1.2 s; to the first batch 2.3 s"
    assert rows["batches at 224 px, read and cropped"] == "1,234 images/s"
    assert rows["training Mixer-B/16, bf16"] == "6.2 images/s"
    assert rows["batches over training"] == "**197.5** times"
    assert rows["most memory of a process that streams"] == "1.50 GB"


def test_a_run_from_scratch_is_no_fine_tuning(results: Stored) -> None:
    fine = a_run("Mixer-Nano_4", 0.8, checkpoint_sha256="a", num_steps=100)
    scratch = a_run("Mixer-Nano_4", 0.9, checkpoint_sha256=None, upstream="random weights")
    results([fine, scratch])
    labels = [row["label"] for row in figures.accuracies()][-2:]
    assert labels == [
        "Mixer-Nano_4,\nTiny ImageNet-200 at 32 px",
        "Mixer-Nano_4, from scratch,\nrandom weights",
    ]


def test_table_of_checkpoints_has_a_line_for_each() -> None:
    lines = figures.weights_table().splitlines()[2:]
    names = {path.stem for path in (ROOT / "mixer" / "weights").glob("Mixer-*.npz")}
    assert {line.split("`")[1] for line in lines} == names


def test_a_checkpoint_of_two_runs_says_where_each_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads((ROOT / "mixer/lessons/results/upstream_last.json").read_text())
    record |= {"hours": 0.6, "machine": "B, 1 thread, torch 2.14.1"}
    record["earlier"][0] |= {"hours": 0.1, "machine": "A, torch 2.11.0"}
    (tmp_path / "Some.json").write_text(json.dumps(record))
    monkeypatch.setattr(figures, "bundled", lambda name: tmp_path / f"{name}.npz")
    (line,) = figures.weights_table().splitlines()[2:]
    assert "`nano-upstream-gpu`, `nano-upstream-last-cpu`" in line
    assert line.endswith("| 120.39 | 6.0 min, A; 30.0 min, B, 1 thread |")


def test_the_readme_s_sentences_on_speed_say_what_was_measured():
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    compared = json.loads((ROOT / "mixer/lessons/results/speed-cpu.json").read_text())["comparisons"]

    def ratio(comparison: str, base: str) -> str:
        rows = compared[comparison]["ratios"]
        found = [row["median"] for row in rows if (row["side"], row["base"]) == ("ours", base)]
        return f"{found[0]:.1f}"

    training = ratio("nano-training", 'ours with nn.GELU("tanh")')
    assert f"trains {training} times as fast as with PyTorch's own tanh GELU" in readme
    forward = ratio("b16-forward", "timm with tanh")
    assert f"B/16 classifies {forward} times as many images as timm's with that GELU" in readme
    gpu = json.loads((ROOT / "mixer/lessons/results/speed-cuda.json").read_text())["comparisons"]
    ours = gpu["b16-training"]["sides"]["ours"]
    speed = round(ours["images_per_second"]["median"], -2)
    share = 100 * ours["share_of_a_large_product"]["median"]
    assert f"On an H200 B/16 trains on {speed:,.0f} images a second, {share:.0f} % of" in readme
    folder = json.loads((ROOT / "mixer/lessons/results/folder_cache.json").read_text())
    assert f"photos are decoded once, in {folder['decode']['seconds'] / 60:.0f} minutes" in readme
