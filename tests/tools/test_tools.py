"""Each script of tools/ runs on something tiny and writes what it should."""

import json
import math
import shutil
import tomllib
from pathlib import Path

import bundle_weights
import figures
import nbformat
import numpy as np
import pytest
import set_repository
import store_notebooks
import torch
from helpers import ROOT, ten_classes
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

import mixer
from mixer.train import Recipe, train


@pytest.mark.parametrize("name", figures.PICTURES)
def test_pictures_of_the_readme_are_drawn_and_there(name: str, tmp_path: Path) -> None:
    sizes = [Image.open(path).size for path in (figures.draw(name, tmp_path), ROOT / "img" / name)]
    # Text is set a little wider by one version of matplotlib than by another.
    assert np.allclose(*sizes, rtol=0.1) and sizes[0][0] >= 900


@pytest.mark.parametrize("page", figures.PAGES, ids=lambda path: path.parent.name)
def test_tables_say_what_was_measured(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert figures.with_tables(text) == text, "run python tools/figures.py"


def test_a_row_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    run = {"model": "Mixer-B_16", "accuracy": 0.9612, "accuracy_of_first_9728": 0.9613}
    run |= {"recipe": "official", "num_steps": 10_000, "batch_size": 512, "image_size": 224}
    run |= {"wall_seconds": 9000, "test_images": 10_000, "checkpoint_sha256": "1"}
    run |= {"precision": "bf16", "machine": {"device": "A GPU"}}
    other = {**run, "accuracy": 0.9622, "seed": 2}
    shorter = {**run, "num_steps": 500, "recipe": "cifar10-100_500"}
    monkeypatch.setattr(figures, "stored", lambda name: {"runs": [shorter, run, other]})
    row = figures.accuracy_table().splitlines()[2]
    assert row == "| ImageNet | Mixer-B/16 | 96.72 % | 96.17 % | 2 |"
    first, second = figures.results_table().splitlines()[2:4]
    assert "96.17 % (96.12 to 96.22 %) of 10,000 images, 96.13 % of the first 9,728" in first
    assert first.endswith("| 2 | 10,000 of 512 images (`official`) | 2.5 h | A GPU, bf16 |")
    assert "500 of 512 images" in second


def test_a_notebook_is_stored_only_when_every_cell_ran(tmp_path: Path) -> None:
    path = tmp_path / "01.ipynb"
    code = "import ipywidgets\nfrom IPython.display import display\n"
    code += "display(ipywidgets.IntSlider())\nprint(6 * 7)"
    cells = [new_markdown_cell("# A title"), new_code_cell(code, metadata={"tags": ["setup"]})]
    nbformat.write(new_notebook(cells=[*cells, new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        store_notebooks.main([str(path)])
    assert path.read_bytes() == before
    nbformat.write(new_notebook(cells=cells), path)
    store_notebooks.main([str(path)])
    stored = nbformat.read(path, as_version=4)
    assert set(stored.metadata) == {"kernelspec", "language_info"}
    assert [cell.id for cell in stored.cells] == ["cell-00", "cell-01"]
    cell = stored.cells[1]
    assert cell.metadata == {"tags": ["setup"]} and cell.execution_count == 1
    assert store_notebooks.WIDGET not in json.dumps(cell.outputs)
    assert cell.outputs[-1].text == "42\n"


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps from scratch."""
    recipe = Recipe(
        num_steps=3,
        warmup_steps=1,
        batch_size=4,
        optimizer="adamw",
        learning_rate=1e-2,
        weight_decay=0.1,
        token_mixing_learning_rate=5e-3,
        from_scratch=True,
        augmentation="none",
        seed=5,
    )
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("runs") / "r"
    model, how = mixer.create_model("Mixer-Nano_4", 10), {"device": "cpu", "precision": "fp32"}
    more = {"output_dir": folder, "progress": False, "origin": "random weights"}
    train(model, ten_classes(), recipe, **how, **more)
    return folder


def test_bundled_weights(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_weights.mixer_data, "load_data", lambda name: ten_classes())
    name, commands = "Mixer-Nano_4-muon", ["--command", "one", "--command", "two"]
    places = ["--weights", str(tmp_path)]
    bundle_weights.main([str(run_folder), name, *commands, *places])
    stored = mixer.from_npz(tmp_path / f"{name}.npz").state_dict()
    for key, tensor in mixer.from_npz(run_folder / "model.npz").state_dict().items():
        assert torch.equal(stored[key], tensor.half().float())
    record = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    losses = json.loads((run_folder / "history.json").read_text())["loss"]
    known = {"model": "Mixer-Nano_4", "command": "one", "later_commands": ["two"], "seed": 5}
    known |= {"steps": 3, "epochs": 0.12, "test_images": 20, "precision": "fp32"}
    assert record.items() >= known.items()
    assert record["first_losses"] == [round(loss, 4) for loss in losses]
    assert len(record["classes"]) == 10 and Recipe(**record["recipe"]).weight_decay == 0.1
    # Rates of the three steps: warm-up from 0, then a cosine from its top, half-way down.
    rates = 1e-2 * (0 + 1 + 0.5 * (1 + math.cos(math.pi / 2)))
    decay = {"channel_mixing": 0.1 * rates, "token_mixing": 0.05 * rates, "outer": 0.1 * rates}
    assert record["learning_rate_times_decay"] == {k: round(v, 3) for k, v in decay.items()}
    # Three steps change little.
    assert len(record["similarity_to_the_start"]) == 8
    assert all(0.9 < similarity <= 1 for similarity in record["similarity_to_the_start"])
    # Old weights stand where no record can be made.
    before = (tmp_path / f"{name}.npz").read_bytes()
    (run_folder / "history.json").unlink()
    with pytest.raises(OSError, match="history"):
        bundle_weights.main([str(run_folder), name, *commands, *places])
    assert (tmp_path / f"{name}.npz").read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_the_address_reaches_every_place(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    set_repository.main([], tmp_path)
    stored = "".join(p.read_text("utf-8") for p in tmp_path.glob("notebooks/*.ipynb"))
    assert "colab.research" not in stored and "git+https" not in stored
    for slug in ("someone/first-name", "someone/mixer-series"):
        set_repository.main([slug, "--site", "https://a.example"], tmp_path)
    address = "https://github.com/someone/mixer-series"
    urls = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Repository"] == address
    assert f"repository-code: {address}\n" in (tmp_path / "CITATION.cff").read_text()
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"`git clone {address}`" in readme and "(https://a.example/explainer.html)" in readme
    assert f"]({address}/actions/workflows/tests.yml)" in readme
    for path in (tmp_path / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        badge, _, title, *_ = notebook.cells[0].source.splitlines()
        assert f"/someone/mixer-series/blob/main/notebooks/{path.name})" in badge
        assert ("(https://a.example/explainer.html)" in badge) == (path.name[:2] in "01 06 07")
        assert title.startswith("# ")
        code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        assert f"git+{address}" in code[0]
    for path in tmp_path.rglob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert "first-name" not in text and "OWNER" not in text, path
