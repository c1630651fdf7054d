"""The model card of a scored, an unscored and a phantom-trained head."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.claims import ranged
from analysis.model_card import model_card
from analysis.scores import read_tables


@pytest.fixture
def card(analysed):
    def written(trial=None, tables=True, **changes):
        scores, comparisons = read_tables(analysed.folder) if tables else (None, None)
        arguments = {
            "title": "probe",
            "cohort": analysed.study.cohort,
            "encoder": analysed.study.encoder,
            "trial": trial or analysed.study.trials[1],
            "objective": "macro_ap",
            "scores": scores,
            "comparisons": comparisons,
            "metadata": {"study": "synthetic"},
        }
        return model_card(**arguments | changes)

    return written


def test_it_names_cohort_encoder_floors_and_use(card, analysed):
    text = card()
    for piece in (
        "# probe",
        "Not a medical device",
        "c" * 16,
        "f" * 16,
        "| prevalence |",
        "| logreg |",
        "| **best-1** |",
        "Study: synthetic.",
        "uncertain: ignore",
        "learning_rate",
    ):
        assert piece in text
    assert "best-2" not in text


def test_scores_stand_with_their_intervals_and_the_claims(card, analysed):
    text = card()
    row = analysed.result.scores.query("setting == 'best-1' and metric == 'macro_auroc'").iloc[0]
    assert ranged(row) in text
    for claim in analysed.result.claims:
        assert claim.sentence in text


def test_its_tables_are_whole(card):
    for line in card().splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
    assert "nan" not in card().lower().replace("finance", "")


def test_labels_that_share_the_global_threshold_are_named(card, analysed):
    few_C = np.zeros(14, dtype=bool)
    few_C[[8, 10]] = True
    trial = replace(analysed.study.trials[1], strategy="shrunk", few_C=few_C)
    assert "share the global one: Pneumothorax, Pleural Other." in card(trial=trial)
    assert "global one" not in card(trial=replace(trial, few_C=np.zeros(14, dtype=bool)))
    # Under these strategies no label has a threshold of its own, so none shares another's for want of one.
    assert "global one" not in card(trial=replace(trial, strategy="fixed"))
    assert "global one" not in card(trial=replace(trial, strategy="global"))


def test_a_head_that_was_not_scored_says_so(card, analysed):
    for text in (card(tables=False), card(trial=replace(analysed.study.trials[1], name="trial-99"))):
        assert "Not scored: this configuration is not among those" in text
        assert "macro average precision" in text


def test_a_phantom_head_says_so_first(card, analysed):
    cohort = replace(analysed.study.cohort, drawn=True)
    assert "**Trained on drawn phantoms." in card(cohort=cohort).split("## Intended use")[0]
