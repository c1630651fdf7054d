"""The gap between validation and test, over the same labels and by the same judgement."""

from dataclasses import replace

import numpy as np
import pytest

from scoring.judging import judge
from tests.analysis.synthetic import finished_study
from trainables.baselines import ZERO_SHOT


def test_the_gap_is_measured_over_the_same_labels_on_both_splits(analysed, scores):
    gap = analysed.result.gap.set_index("setting")
    assert gap.loc["best-1", "test"] == pytest.approx(scores.loc[("best-1", "macro_ap", ""), "value"])
    np.testing.assert_allclose(gap["gap"], gap["validation"] - gap["test"])


def test_what_no_image_can_move_has_none(analysed):
    assert not {"random", "prevalence", "all-positive"} & set(analysed.result.gap["setting"])


def test_the_gap_of_macro_f1_does_not_depend_on_the_scale_of_image_text_products(tmp_path):
    study = finished_study(images=600, objective="macro_f1")
    louder = replace(study.encoder, direction_CD=1000 * study.encoder.direction_CD)
    gap, loud = (
        one.judgement(tmp_path).gap.set_index("setting") for one in (study, replace(study, encoder=louder))
    )
    for side in ("validation", "test"):
        assert loud.loc[ZERO_SHOT, side] == pytest.approx(gap.loc[ZERO_SHOT, side])


def test_a_trials_macro_f1_on_validation_is_judged_as_in_its_study(tmp_path):
    study = finished_study(images=600, objective="macro_f1")
    best = study.trials[1]
    params = {**best.origin.params, "threshold_shrinkage": 100.0}
    judgement = replace(study, trials=[replace(best, origin=replace(best.origin, params=params))]).judgement(
        tmp_path
    )
    rows = replace(judgement.judged, averaged_C=judgement.split.averaged_C)
    (judged,) = judge(judgement.answer.val_scores_NC[None], rows, [100.0])
    gap = judgement.gap.set_index("setting")
    assert gap.loc[judgement.best, "validation"] == judged.metrics["val.macro_f1"]
