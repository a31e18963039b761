"""What the figures of notebooks 3 and 5 show, by value."""

import numpy as np
import pytest
from figures_model import FIGURES as OF_THE_MUSEUM
from figures_results import COUNTS, FIGURES, SEEDS


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_row_of_the_confusion_is_in_percent_of_its_class() -> None:
    (ax,) = FIGURES["confusion"]().axes
    at = {tuple(map(int, text.get_position())): text.get_text() for text in ax.texts}
    assert at == {(0, 0): "75", (1, 0): "25", (2, 1): "100", (2, 2): "100"}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "a long name"]


def test_few_labels_show_means_runs_and_guessing() -> None:
    (ax,) = FIGURES["few_labels"]().axes
    *lines, guessing = ax.lines
    means, rings = lines[:2], lines[2:]
    for line, (name, runs) in zip(means, SEEDS.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_allclose(line.get_ydata(), np.mean(runs, axis=0))
    for ring, values in zip(rings, SEEDS["pre-trained"], strict=True):
        np.testing.assert_allclose(ring.get_ydata(), values)
    assert (rings[0].get_xdata() < COUNTS).all() and (rings[1].get_xdata() > COUNTS).all()
    assert list(guessing.get_ydata()) == [0.1, 0.1] and ax.get_ylim()[0] == 0
    assert [label.get_text() for label in ax.get_xticklabels()] == ["500", "5,000", "50,000"]


def test_learning_rates_are_those_of_the_recipes() -> None:
    (ax,) = FIGURES["learning_rates"]().axes
    for line, peak in zip(ax.lines, (0.05, 0.05, 0.2), strict=True):
        shares, rates = line.get_data()
        assert rates[0] == 0 and rates[-1] == pytest.approx(0, abs=1e-9)
        assert (shares[np.argmax(rates)], max(rates)) == (pytest.approx(peak), pytest.approx(0.03))


def test_accuracies_are_said_and_drawn() -> None:
    above, below = FIGURES["accuracies"]().axes
    assert texts(above) == [
        "published 96.72%, here 96.20%\none\ntwo",
        "published 96.59%, not run here yet",
    ]
    assert texts(below) == ["here 90.74%\ntwo seeds"]
    published, measured = above.lines
    assert list(published.get_xdata()) == [0.9672, 0.9659]
    assert measured.get_xdata()[0] == 0.962 and below.lines[1].get_xdata()[0] == 0.9074


def test_findings_are_written_where_they_were_made() -> None:
    (ax,) = OF_THE_MUSEUM["findings_table"]().axes
    at = {tuple(text.get_position()): text.get_text() for text in ax.texts}
    assert [at[0.5, 0.5], at[1.5, 0.5]] == ["nothing", "nothing"]
    assert [at[0.5, 1.5], at[1.5, 1.5]] == ["-12", "off by 0.1"]
