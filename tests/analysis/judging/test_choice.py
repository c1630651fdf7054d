"""The sections on choice and luck, and on labels for a second look."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.judging.sections import choice, label_audit
from analysis.section import Folded, Picture, Table, Words
from cohort.errors import InputError
from scoring.label_audit import Contradictions


def best_trials(judgement, scores_KF):
    record = judgement.study.records[judgement.best]
    return [
        replace(record, number=number, fold_objectives=list(scores_F))
        for number, scores_F in enumerate(scores_KF, start=40)
    ]


def words(section):
    return " ".join(part.text for part in section.parts if isinstance(part, Words))


def test_the_best_stand_with_their_folds_and_a_difference_that_these_do_not_show(analysed):
    scores_KF = [[0.6, 0.5, 0.4, 0.5, 0.5], [0.5, 0.6, 0.4, 0.5, 0.49]]
    facts = replace(
        analysed.judgement.study,
        best=best_trials(analysed.judgement, scores_KF),
        best_nested_objective=0.123,
    )
    section = choice.run(replace(analysed.judgement, study=facts))
    said = words(section)
    assert "Each of the best 2 configurations was scored on 5 folds" in said
    assert "Trial 40 and trial 41 differ by +0.002 on average" in said
    assert "a difference that the folds do not show" in said and "without them, 0.123 remains" in said
    (picture,) = [part for part in section.parts if isinstance(part, Picture)]
    (axes,) = picture.figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["trial 40", "trial 41"]
    assert axes.lines[0].get_xdata().tolist() == scores_KF[0]


def test_one_that_is_better_on_every_fold_is_said_to_be(analysed):
    facts = replace(
        analysed.judgement.study,
        best=best_trials(analysed.judgement, [[0.6] * 5, [0.5, 0.51, 0.5, 0.49, 0.5]]),
    )
    assert "a difference that the folds show" in words(choice.run(replace(analysed.judgement, study=facts)))


def test_a_fold_that_nothing_could_be_scored_on_is_left_out(analysed):
    def said(scores_KF):
        facts = replace(analysed.judgement.study, best=best_trials(analysed.judgement, scores_KF))
        text = words(choice.run(replace(analysed.judgement, study=facts)))
        return text[text.index("Trial 40 and") :]

    scores_KF = np.array([[0.6, 0.5, 0.4, 0.5], [0.5, 0.6, 0.4, 0.49]])
    assert said(np.insert(scores_KF, 2, np.nan, axis=1)) == said(scores_KF)


def test_a_study_by_one_split_says_where_its_finalists_stand(analysed):
    section = choice.run(analysed.judgement)
    assert "chose by one validation split" in words(section) and len(section.parts) == 1


@pytest.fixture
def with_images(analysed, monkeypatch):
    """The made-up cohort with a picture for every image but one; some of its labels were flipped."""

    class Files:
        def decode(self, row):
            if row == missing[0]:
                raise InputError("x.png: damaged")
            return np.full((40, 30), row % 256, dtype=np.uint8)

    judgement = analysed.judgement
    rows_N = judgement.predictions.images.judged_N
    row = judgement.answer
    targets_NC = judgement.judged.targets_NC.copy()
    sure = np.argsort(-row.val_scores_NC[:, 13])[:3]
    targets_NC[sure, 13] = 0
    missing = [int(rows_N[sure[0]])]
    monkeypatch.setattr(type(judgement.cohort), "files", lambda self: Files())
    return replace(judgement, judged=replace(judgement.judged, targets_NC=targets_NC)), rows_N[sure]


def test_flipped_labels_are_listed_first_with_their_pictures(with_images):
    judgement, flipped_rows = with_images
    section = label_audit.run(judgement)
    table = section.tables["label_audit"]
    label = judgement.cohort.labels[13]
    own = table[(table["label"] == label) & (table["given"] == 0)].sort_values("rank")
    named = [judgement.cohort.column("image")[row] for row in flipped_rows]
    assert set(own["image"].head(3)) == set(named)
    assert (own["quality"] == 1 - own["probability"]).all()
    assert "Nothing was relabelled" in words(section) and "validation images" in words(section)
    (counts,) = [part for part in section.parts if isinstance(part, Table)]
    assert len(counts.rows) == len(judgement.cohort.labels)
    sheets = {part.title: part.parts[0] for part in section.parts if isinstance(part, Folded)}
    (mine,) = [picture for title, picture in sheets.items() if title.startswith(label)]
    assert "1 image could not be read" in mine.caption
    assert "absent, p " in mine.figure.axes[0].get_title(loc="left")


@pytest.mark.parametrize(("expected", "said"), [(0.4, "some of them may be wrong"), (9.0, "nothing speaks")])
def test_more_contradicted_labels_than_right_ones_would_give_speak_for_wrong_ones(
    analysed, monkeypatch, expected, said
):
    """Two labels are contradicted."""
    shape = analysed.judgement.judged.targets_NC.shape
    contradicted_NC = np.zeros(shape, dtype=bool)
    contradicted_NC[:2, 0] = True
    found = Contradictions(contradicted_NC, np.full(shape, 0.1), np.r_[expected, np.zeros(shape[1] - 1)])
    monkeypatch.setattr(label_audit, "contradictions", lambda *given, **more: found)
    text = words(label_audit.run(analysed.judgement))
    assert "contradict 2 labels" in text and said in text
    assert ("may be wrong" in text) != ("nothing speaks" in text)


def test_where_the_images_are_gone_the_table_stands_without_pictures(analysed):
    section = label_audit.run(analysed.judgement)
    assert "label_audit" in section.tables
    assert not [part for part in section.parts if isinstance(part, Folded)]
    assert "could be read" in words(section) or "cannot be shown" in words(section)


def test_a_sheet_holds_its_images_side_by_side(with_images):
    judgement, _ = with_images
    line = next(label_audit.run(judgement).tables["label_audit"].itertuples())
    figure = label_audit.sheet([(line, np.zeros((96, 96, 3), np.uint8))] * 5)
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 1, 1, 0, 0, 0]
