"""Figures: the same bytes each time, names as they are, and tick labels that do not run into each other."""

from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.figures import STYLE, new_figure, powers_of_ten, short, write
from analysis.judging.sections.search import learning_curves, search_history, search_slices
from analysis.row_styles import BEST, RowStyle
from trainables.records import TrialRecord


def named(name: str):
    with mpl.rc_context(STYLE):
        figure = new_figure(3, 2)
        axes = figure.subplots()
        axes.scatter([1, 2], [3, 4])
        axes.set_title(name)
    return figure


def words(axis) -> list:
    """The labels that an axis shows, once it is laid out."""
    axis.figure.draw_without_rendering()
    low, high = sorted(axis.get_view_interval())
    return [
        label
        for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
        if low <= place <= high and label.get_text()
    ]


def test_a_figure_is_the_same_bytes_twice_and_nothing_in_it_is_dated_or_numbered(tmp_path):
    one, other = (write(named("a"), tmp_path / f"{n}.png", "what it shows") for n in "ab")
    assert one == other and (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert one.startswith('<svg role="img" aria-label="what it shows" ')
    assert "figure_1" not in one and "axes_1" not in one and "<dc:date>" not in one


def test_what_a_stranger_names_is_drawn_as_it_stands(tmp_path):
    name = r'<script>$\frac{1}$</script> & "x" <g id="axes_1">'
    svg = write(named(name), tmp_path / "drawn.png", name)
    assert r'&lt;script&gt;$\frac{1}$&lt;/script&gt; &amp; "x" &lt;g id="axes_1"&gt;</text>' in svg
    assert "<script" not in svg
    with Image.open(tmp_path / "drawn.png") as image:
        assert image.width == 900


def test_a_long_name_is_cut_where_a_figure_has_no_room():
    assert short("Pleural Effusion") == "Pleural Effusion"
    assert short("x" * 26) == "x" * 26 and short("x" * 27) == "x" * 25 + "…"


def test_powers_of_ten_are_written_without_mathematics():
    with mpl.rc_context(STYLE):
        axes = new_figure(2.3, 2).subplots()
        axes.scatter([2e-5, 0.5], [1, 2])
        powers_of_ten(axes)
    assert "10⁻⁴" in [label.get_text() for label in words(axes.xaxis)]


@pytest.fixture
def four_trials() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": range(4),
            "state": "COMPLETE",
            "val.macro_ap": [0.1, 0.3, 0.2, 0.4],
            "params.epochs": [10, 11, 12, 12],
            "params.learning_rate": [1e-5, 1e-4, 1e-3, 1e-1],
            "params.normalisation": ["center", "l2", "none", "standardize"],
        }
    )


def test_ticks_of_whole_numbers_are_whole(four_trials):
    history = search_history(four_trials, "macro_ap", []).axes[0].xaxis
    epochs = search_slices(four_trials, "macro_ap")["epochs"].axes[0].xaxis
    record = TrialRecord(
        number=1,
        params={},
        state="COMPLETE",
        objective=0.4,
        curve=[
            {"epoch": epoch, "train_loss": 1.0, "val_loss": 1.0, "objective": 0.1 * epoch} for epoch in (1, 2)
        ],
    )
    curves = [axes.xaxis for axes in learning_curves([(RowStyle("best-1", BEST), record)], "macro_ap").axes]
    for axis in (history, epochs, *curves):
        places = [float(label.get_text().replace("−", "-")) for label in words(axis)]
        assert len(places) >= 2 and all(place % 1 == 0 for place in places)


@pytest.mark.parametrize("name", ["epochs", "learning_rate", "normalisation"])
def test_tick_labels_do_not_run_into_each_other(four_trials, name):
    axis = search_slices(four_trials, "macro_ap")[name].axes[0].xaxis
    labels = words(axis)
    assert len(labels) >= 2
    boxes = []
    for label in labels:
        turned = np.deg2rad(label.get_rotation())
        label.set_rotation(0)
        box = label.get_window_extent()
        boxes.append((label.get_transform().transform(label.get_unitless_position())[0], box))
    for (x, box), (next_x, next_box) in pairwise(boxes):
        if turned:  # lines of text as far apart as they are high
            assert (next_x - x) * np.sin(turned) > box.height
        else:
            assert box.x1 < next_box.x0
