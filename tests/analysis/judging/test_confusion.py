"""The confusion matrix of multiclass labels: its counts, its figure, and where it stands."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix as reference

from analysis.analyze import checked, usual
from analysis.judging.sections import confusion
from analysis.section import Folded, Picture, Table
from cohort.errors import InputError
from tests.analysis.synthetic import named


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_counts_worked_by_hand():
    nan = np.nan
    targets_NC = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [nan, nan]])
    decisions_NC = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]], dtype=bool)
    assert confusion.class_counts(targets_NC, decisions_NC).tolist() == [[2, 1], [0, 1]]


def test_both_matrices_are_scikit_learns_and_stand_in_the_file(of_classes):
    table = pd.read_csv(of_classes.folder / "confusion.csv")
    labels, targets_NC = list(of_classes.study.cohort.labels), of_classes.judgement.split.targets_NC
    known_N = ~np.isnan(targets_NC).any(1)
    assert list(dict.fromkeys(table["setting"])) == ["best-1", "logreg"]
    for name, own in table.groupby("setting"):
        decided_N = named(of_classes.judgement, name).test_decisions_NC[known_N].argmax(1)
        expected_CC = reference(targets_NC[known_N].argmax(1), decided_N, labels=range(4))
        found = own.pivot(index="true", columns="decided", values="images").loc[labels, labels]
        np.testing.assert_array_equal(found, expected_CC)
        shares = own.pivot(index="true", columns="decided", values="share").loc[labels, labels]
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)


def test_the_figure_shows_shares_and_counts_under_the_labels_display_names(of_classes):
    section = confusion.run(of_classes.judgement)
    best, logreg = (part for part in section.parts if isinstance(part, Picture))
    assert (best.name, logreg.name) == ("confusion_best-1", "confusion_logreg")
    axes = best.figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()][2] == "viral pneumonia"
    assert axes.get_yticklabels()[2].get_text().startswith("viral pneumonia  (")
    counts_CC = confusion.class_counts(
        of_classes.judgement.split.targets_NC, of_classes.judgement.answer.test_decisions_NC
    )
    first = counts_CC[0, 0]
    assert texts(best.figure)[0] == f"{100 * first / counts_CC[0].sum():.0f}%\n{first:,}"
    (folded,) = (part for part in section.parts if isinstance(part, Folded))
    tables = [part for part in folded.parts if isinstance(part, Table)]
    assert [table.title for table in tables] == ["best-1", "logreg"]
    assert tables[0].rows[0].cells[1].startswith(f"{first:,} (")


@pytest.mark.parametrize(("labels", "text"), [(3, "33%\n1"), (9, "11"), (16, None)])
def test_cells_hold_what_they_have_room_for(labels, text):
    names = [f"class {n}" for n in range(labels)]
    figure = confusion.confusion_matrix(np.ones((labels, labels), dtype=np.int64), names, "best-1")
    assert (texts(figure)[0] if text else texts(figure)) == (text or [])
    empty = confusion.confusion_matrix(np.zeros((3, 3), dtype=np.int64), names[:3], "best-1")
    assert texts(empty)[0] == "0%\n0"


def test_it_is_a_section_of_multiclass_labels_alone(analysed, of_classes):
    assert "What was taken for what" in (of_classes.folder / "report.html").read_text()
    assert "What was taken for what" not in (analysed.folder / "report.html").read_text()
    assert of_classes.result.failed == {}
    of_these, of_those = of_classes.study.cohort, analysed.study.cohort
    assert "confusion" in usual(of_these) and "confusion" not in usual(of_those)
    assert checked(["scores", "confusion"], of_these) == ["scores", "confusion"]
    with pytest.raises(InputError, match=r"^the section confusion is for multiclass labels, .* independent;"):
        checked(["scores", "confusion"], of_those)
