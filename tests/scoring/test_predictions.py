"""The table between training and judging: what it refuses, and what its file keeps."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from scoring.decision_rule import DecisionRule
from scoring.judging import Scale
from scoring.predictions import (
    Origin,
    PredictedImages,
    PredictionRow,
    Predictions,
    read_predictions,
    write_predictions,
)

LABELS = ("Edema", "Mass")


def row(id="answer", name="study", role="answer", **more):
    scores_NC = np.array([[0.5, -1.0], [np.nan, np.nan], [2.0, 0.0]])
    fields = {"rule": DecisionRule.fixed(2), "origin": Origin(note="a note"), "scores_NC": scores_NC}
    return PredictionRow(id=id, name=name, role=role, **fields | more)


def table(*rows, **more):
    images = PredictedImages(
        image=("a", "b", "c"),
        patient=("p", "p", "q"),
        study=("", "", "s"),
        split=("val", "train", "test"),
        fold_N=np.array([0, -1, -1]),
        threshold_fold_N=np.array([3, -1, -1]),
    )
    return Predictions(labels=LABELS, multiclass=False, images=images, rows=rows or (row(),), **more)


def test_the_file_gives_back_what_was_written(tmp_path):
    ranking = row(
        id="baseline/zero-shot",
        name="zero-shot",
        role="baseline",
        ranks_only=True,
        rule=replace(DecisionRule.fixed(2), scale=Scale(1.5, 2.0)),
        origin=Origin(note="", trial=7, params={"prompts": "pair"}, objective=0.25),
    )
    before = table(ranking, row(), averaged=("Mass",), facts={"encoder": {"name": "x"}})
    path = tmp_path / "predictions.arrow"
    path.write_bytes(write_predictions(before))
    after = read_predictions(path)
    assert after.content_hash == before.content_hash
    assert after.rows[0].origin == ranking.origin and after.rows[0].rule.scale == Scale(1.5, 2.0)
    assert after.averaged == ("Mass",) and after.facts == before.facts
    np.testing.assert_array_equal(after.answer.scores_NC, before.answer.scores_NC)
    lines = pa.ipc.open_file(path).read_all().to_pandas()
    assert len(lines) == 6 and lines["decision.Edema"].tolist() == [0, -1, 1, 1, -1, 1]
    assert lines["probability.Edema"].isna().tolist() == [True, True, True, False, True, False]


def test_a_changed_score_is_another_table_and_a_changed_file_none(tmp_path):
    told = row(scores_NC=np.full((3, 2), 0.123456789))
    before = table(told)
    moved = replace(told, scores_NC=told.scores_NC + 1e-12)
    assert table(moved).content_hash != before.content_hash
    whole = bytearray(write_predictions(before))
    place = whole.find(np.float64(0.123456789).tobytes())
    whole[place] ^= 1
    path = tmp_path / "predictions.arrow"
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="not what was written"):
        read_predictions(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError):
        read_predictions(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((row(), row(name="other", role="trial")), "id must be unique"),
        ((row(), row(id="trial/1", role="trial")), "name must be unique"),
        ((row(), row(id="trial/1", name="best-1")), "one row at most may be the answer"),
        ((replace(row(), scores_NC=np.zeros((2, 2))),), "scores_NC of answer must be"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        table(*rows)


def test_a_role_that_is_none_is_refused():
    with pytest.raises(ValueError, match="role must be one of answer, trial"):
        row(role="study")


def test_the_answer_is_the_row_of_that_role_whatever_its_name():
    other = row(id="other_study/x", name="study", role="other_study")
    best = row(id="trial/3", name="best-1")
    assert table(other, best).answer is best
    with pytest.raises(LookupError):
        _ = table(other).answer
