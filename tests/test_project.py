"""The project's files agree with each other; stored notebooks can be read without a kernel."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
SPEC = importlib.util.spec_from_file_location(
    "set_repository", ROOT / "tools" / "set_repository.py"
)
set_repository = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(set_repository)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
# What a kernel says of its language: JupyterLab writes it into a notebook that lacks it.
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


# ---------------------------------------------------------------------------- packages and commands


def test_the_packages_are_the_same_everywhere():
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    lessons = f"{project['name']}[lessons]"
    assert lessons in extras["test"]
    declared = project["dependencies"] + extras["lessons"]
    declared += [package for package in extras["test"] if package != lessons]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = [entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict)]
    assert [package for package in pip if not package.startswith("-")] == declared
    assert f"python{project['requires-python']}" in conda["dependencies"]


def test_conda_environment_is_complete():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["name"] == "mixer"
    assert conda["channels"] == ["conda-forge", "nodefaults"]
    assert "pip" in conda["dependencies"]


def test_torch_is_not_pinned():
    for package in PYPROJECT["project"]["dependencies"]:
        assert "==" not in package and "<" not in package, package


@pytest.mark.parametrize("marker", ["install command", "test command"])
def test_the_readme_has_its_two_commands_in_one_line_each(marker):
    block = re.search(rf"<!-- {marker} -->\s*```\w*\n(.*?)```", README, re.DOTALL)
    assert block and len(block[1].strip().splitlines()) == 1
    assert "python3 -m venv" in block[1]


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 220
    assert not [line for line in lines if len(line) > 100]


def test_the_readme_leaves_nothing_to_be_filled_in():
    assert set_repository.UNKNOWN not in README


def test_the_commands_of_the_readme_are_those_that_there_are():
    from mixer.commands import COMMANDS

    block = re.search(r"## Command line\s*```sh\n(.*?)```", README, re.DOTALL)[1]
    used = {line.split()[1] for line in block.splitlines() if line.split()[1] != "#"}
    assert used <= set(COMMANDS) and used >= {"lab", "predict", "train", "download"}


def test_every_notebook_is_in_the_readme():
    for path in NOTEBOOKS:
        assert f"notebooks/{path.name}" in README


def test_links_inside_the_readme_lead_somewhere():
    links = r"\]\(([^)#:]+)\)|src=\"([^\":]+)\"|^\[\w+\]: ([^#:\n]+)$"
    for target in re.findall(links, README, re.MULTILINE):
        path = next(filter(None, target))
        assert (ROOT / path).exists(), path


# --------------------------------------------------------------------------------- stored notebooks


def test_the_notebooks_are_there():
    assert [path.name[:2] for path in NOTEBOOKS] == [
        f"{n:02d}" for n in range(1, len(NOTEBOOKS) + 1)
    ]


def test_stored_from_one_run_top_to_bottom(notebook):
    assert [cell.execution_count for cell in code_cells(notebook)] == list(
        range(1, len(code_cells(notebook)) + 1)
    )


def test_no_errors_are_stored(notebook):
    assert not [
        o for cell in code_cells(notebook) for o in cell.outputs if o.output_type == "error"
    ]


def test_outputs_and_pictures_are_stored(notebook):
    outputs = [o for cell in code_cells(notebook) for o in cell.outputs]
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 2


def test_pictures_have_alternative_text(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert output.metadata.get("image/png", {}).get("alt", "").strip(), cell.source
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"!\[\s*\]\(", cell.source), cell.source
            assert not re.search(r"<img(?![^>]*alt=)", cell.source), cell.source


def test_cells_are_short(notebook):
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) <= 20, cell.source


def test_no_path_of_a_machine(notebook):
    assert not re.search(r"(?<![\w.])/(tmp|home|root|work|Users|opt|var)/\w", json.dumps(notebook))


def test_shows_without_a_kernel(notebook):
    """GitHub takes a notebook with widgets but no state for invalid, a bare widget for nothing."""
    assert "widgets" not in notebook.metadata
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


def test_metadata_does_not_differ_between_machines(notebook):
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    language = dict(notebook.metadata.language_info)
    assert re.fullmatch(r"3\.\d+\.\d+", language.pop("version"))
    assert language == LANGUAGE
    assert [cell.id for cell in notebook.cells] == [
        f"cell-{n:02d}" for n in range(len(notebook.cells))
    ]


def test_ends_with_summary_and_exercises(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "## Summary" in text and "## Exercises" in text
    assert text.count("<details>") >= 2


def test_no_shell_commands_in_cells(notebook):
    for cell in code_cells(notebook):
        lines = cell.source.splitlines()
        assert not [line for line in lines if line.lstrip().startswith(("!", "%%bash", "%%sh"))], (
            cell.source
        )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_small(path):
    assert path.stat().st_size < 1_000_000


# ------------------------------------------------------------------------- the repository's address


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_badge_and_set_up_cell_hold_the_address_of_pyproject(path):
    notebook = nbformat.read(path, as_version=4)
    for tag, source in set_repository.cells(
        PYPROJECT["project"]["urls"]["Repository"], path.name
    ).items():
        assert [cell.source for cell in notebook.cells if tag in cell.metadata.get("tags", [])] == [
            source
        ]
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert first.metadata.tags == ["repository"]


def test_while_the_address_is_unknown_nothing_pretends_to_work():
    address = "https://github.com/OWNER/REPO"
    assert "](" not in set_repository.cells(address, "01.ipynb")["badge"]
    text = "a\n<!-- badges -->\nx\n<!-- /badges -->\n<!-- clone -->\ny\n<!-- /clone -->\nb\n"
    written = set_repository.readme_with_address(text, address)
    assert "https" not in written and "Clone this repository" in written
    known = set_repository.readme_with_address(written, "https://github.com/someone/series")
    assert "git clone https://github.com/someone/series && cd series" in known
    assert "badge.svg" in known and known.startswith("a\n") and known.endswith("\nb\n")
    assert set_repository.readme_with_address(known, address) == written


def test_the_readme_holds_the_address_of_pyproject():
    address = PYPROJECT["project"]["urls"]["Repository"]
    assert set_repository.readme_with_address(README, address) == README


def test_another_address_reaches_every_place(tmp_path, monkeypatch):
    address = PYPROJECT["project"]["urls"]["Repository"]
    for name in ("pyproject.toml", "README.md", "CITATION.cff"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    for path in NOTEBOOKS:
        (tmp_path / "notebooks" / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(set_repository, "ROOT", tmp_path)
    monkeypatch.setattr(set_repository, "PYPROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr("sys.argv", ["set_repository.py", "someone/mixer-series"])
    set_repository.main()
    assert set_repository.repository() == "https://github.com/someone/mixer-series"
    for path in tmp_path.rglob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert address not in text, path
        assert set_repository.slug(address) not in text or path.name == "pyproject.toml", path
