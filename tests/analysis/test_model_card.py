"""The model card of a scored, an unscored, a fine-tuned and a phantom-trained predictor."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.model_card import model_card
from analysis.number_format import ranged
from cohort.intensity import Intensity
from scoring.decision_rule import DecisionRule


@pytest.fixture
def best(analysed):
    return analysed.study.trials[1]


@pytest.fixture
def card(analysed, best):
    def written(predictor=best, **changes):
        arguments = {
            "cohort": analysed.study.cohort,
            "own_tower": False,
            "objective": "macro_ap",
            "row": "trial/41",
            "judgement": analysed.judgement,
            "split_counts": analysed.judgement.split.counts,
            "provenance": {"revision": "abc123", "nothing": ""},
        }
        return model_card(predictor, **arguments | changes)

    return written


def test_it_names_cohort_encoder_baselines_and_use(card):
    text = card()
    for piece in (
        "# a &lt;b>study&lt;/b>",
        "A linear head on frozen features of `synthetic`",
        "Configuration 41 of the radtune study",
        "chosen on validation by macro average precision",
        "Not a medical device",
        "c" * 16,
        "f" * 16,
        "| prevalence |",
        "| logreg |",
        "| **best-1** |",
        "Revision: abc123.",
        "uncertain: ignore",
        "learning_rate",
    ):
        assert piece in text
    assert "best-2" not in text and "Nothing:" not in text


def test_it_says_how_pixels_become_probabilities_and_not_where_the_encoder_lies(card, best):
    class Deep(type(best.encoder)):
        @property
        def blocks(self):
            return {"pooled": (8, 16), "projected": (192,), "deep": (64, 64, 64)}

    encoder = Deep(**vars(best.encoder) | {"name": "local-dir:/home/me/clip"})
    text = card(replace(best, encoder=encoder))
    assert "holds 8 + 16 pooled, then 192 projected, then 3 x 64 deep." in text
    assert "resized to 64 pixels" in text and "((x - mean_D) / scale_D) @ weight_DC" in text
    assert "`local-dir:clip`" in text and "/home/me" not in text


def test_it_says_labels_by_their_names_and_which_publication_stands_behind_a_row(card, analysed):
    assert "`paper` is the published configuration (Sadman et al. 2025, arXiv 2506.14136)." in card()
    cohort = replace(analysed.study.cohort, label_names={"No Finding": "healthy"})
    text = card(cohort=cohort, judgement=replace(analysed.judgement, cohort=cohort))
    assert "| No Finding (healthy) |" in text and "- healthy: AUROC" in text


def test_it_says_what_is_black_and_white_in_16_bit_gray(card, analysed):
    deep = replace(analysed.study.cohort, intensity=Intensity(0, 4095, "full"))
    assert "Of 16-bit gray, values from 0 to 4095 become black to white (full).\n" in card(cohort=deep)
    assert "16-bit" not in card()


def test_a_fine_tuned_export_is_not_called_a_head_on_frozen_features(card):
    text = card(own_tower=True)
    assert "A fine-tuned image tower with a linear head, from `synthetic`" in text
    assert "frozen" not in text.split("## Scores")[0]
    assert "what the encoder's features hold" not in text


def test_a_published_configuration_is_not_called_chosen(card, analysed):
    paper = analysed.study.trials[0]
    text = card(paper, row="published/paper")
    assert "trained and thresholded as published" in text
    assert "chosen on validation by" not in text
    assert "Strategy: fixed at 0.5." in text
    text = card(paper, row="published/paper", judgement=None)
    assert "by which it was chosen" not in text


def test_scores_stand_with_their_intervals_and_the_claims(card, analysed):
    text = card()
    row = analysed.result.scores.query("setting == 'best-1' and metric == 'macro_auroc'").iloc[0]
    assert ranged(row) in text
    for claim in analysed.result.claims:
        assert claim.sentence in text


def test_decisions_stand_with_their_counts_specificity_and_the_f1_of_all_positive(card, analysed):
    decisions = analysed.judgement.label_decisions.set_index("label")
    idle = {claim.label for claim in analysed.result.claims if claim.idle_decisions}
    table = card().split("| label | patients with / without |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) == len(decisions)
    for line in table:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        own = decisions.loc[cells[0]]
        assert cells[7] == " / ".join(f"{own[count]:.0f}" for count in ("tp", "fp", "tn", "fn"))
        if np.isfinite(own["all_positive_f1"]):
            assert cells[8] == f"{own['all_positive_f1']:.3f}"
        assert cells[4].endswith("†") == (cells[0] in idle)


def test_it_counts_the_images_that_are_scored_and_the_rare_labels_of_an_average(card, analysed):
    counts = [
        replace(one, scored_images=one.images - 14, scored_patients=one.patients - 3)
        for one in analysed.judgement.split.counts
    ]
    test = counts[-1]
    text = card(split_counts=counts)
    assert f"on these {test.scored_images} images of\n{test.scored_patients} patients" in text
    rare = int((analysed.judgement.split.fewer_patients_C[analysed.judgement.split.averaged_C] < 10).sum())
    assert (
        f"({rare} of them with fewer than 10 patients on the smaller side"
        in text.split("Macro averages over")[1]
    )


def test_its_tables_are_whole(card):
    columns = None
    for line in card().splitlines():
        columns = (columns or line.count("|")) if line.startswith("|") else None
        if columns:
            assert line.endswith("|") and line.count("|") == columns
    assert "nan" not in card().lower().replace("finance", "")


def test_a_name_of_a_label_ends_no_cell_and_begins_no_html(card, analysed):
    first = analysed.study.cohort.labels[0]
    names = {first: "left | right <img src=x>"}
    text = card(cohort=replace(analysed.study.cohort, label_names=names))
    assert f"| {first} (left \\| right &lt;img src=x>) |" in text
    assert "<" not in text


@pytest.mark.parametrize(
    ("name", "harmless"),
    [
        ("![x](https://example.org/seen.png)", "![x]\\(https://example.org/seen.png)"),
        ("[x][y]", "[x]\\[y]"),
    ],
)
def test_a_name_of_a_label_makes_no_link_and_no_image(card, analysed, name, harmless):
    first = analysed.study.cohort.labels[0]
    text = card(cohort=replace(analysed.study.cohort, label_names={first: name}))
    assert f"| {first} ({harmless}) |" in text and name not in text


def test_positives_are_those_of_the_counts_it_was_given(card, analysed):
    train, val, test = analysed.judgement.split.counts
    c = analysed.study.cohort.labels.index("Edema")
    cells = [f"{one.positives_C[c]} ({one.patients_C[c]})" for one in (train, val, test)]
    assert f"| Edema | {' | '.join(cells)} | {train.positives_C[c] / train.images:.1%} |" in card()
    text = card(split_counts=[train, val], judgement=None)
    assert "| positive images (patients) | train | val | training prevalence |" in text


def test_scores_that_only_rank_have_no_brier_skill(card, analysed, best):
    ranking = tuple(
        replace(row, ranks_only=row.id == "trial/41" or row.ranks_only) for row in analysed.judgement.rows
    )
    lines = card(judgement=replace(analysed.judgement, rows=ranking)).split("## Scores")[1].splitlines()
    (line,) = (one for one in lines if "| No Finding" in one)
    _label, _patients, auroc, _ap, _f1, _specificity, skill, *_ = (
        cell.strip() for cell in line.split("|")[1:-1]
    )
    assert auroc != "–" and skill == "–"


def test_labels_that_share_the_global_threshold_are_named(card, best):
    shared_C = np.zeros(14, dtype=bool)
    shared_C[[8, 10]] = True
    rule = DecisionRule(strategy="per_label", thresholds_C=np.full(14, 0.3), shared_C=shared_C)
    assert "share the global one: Pneumothorax, Pleural Other." in card(replace(best, rule=rule))
    rule = replace(rule, shared_C=np.zeros(14, dtype=bool))
    assert "global one" not in card(replace(best, rule=rule))


def test_no_label_shares_a_threshold_where_none_has_its_own(card, best):
    few_C = np.ones(14, dtype=bool)
    assert "global one" not in card(replace(best, rule=DecisionRule.fitted("global", [0.5] * 14, few_C)))
    text = card(replace(best, rule=DecisionRule.fitted("fixed", [0.5] * 14, few_C)))
    assert "global one" not in text
    assert "Strategy: fixed at 0.5." in text and "fitted on\nvalidation" not in text


def test_a_predictor_that_was_not_scored_says_so(card, best):
    for text in (card(judgement=None), card(replace(best, name="trial-99"), row="")):
        assert "Not scored: it is not among those" in text
        assert "macro average precision" in text


def test_one_trained_on_phantoms_says_so_first(card, analysed):
    cohort = replace(analysed.study.cohort, drawn=True)
    assert "**Trained on drawn phantoms." in card(cohort=cohort).split("## Intended use")[0]
    named = replace(analysed.study.cohort, source="a table named phantom")
    assert "Trained on drawn phantoms" not in card(cohort=named)


def test_the_terms_of_use_are_stated_where_there_are_any(card, analysed):
    cohort = replace(analysed.study.cohort, licence="CC BY 4.0")
    assert "Terms of use of the images: CC BY 4.0." in card(cohort=cohort)
    assert "Terms of use" not in card()


def test_a_card_of_multiclass_labels_says_that_one_is_decided(of_classes):
    best = of_classes.study.trials[1]
    text = model_card(
        best,
        of_classes.study.cohort,
        own_tower=False,
        objective="macro_ap",
        row="trial/41",
        judgement=of_classes.judgement,
        split_counts=of_classes.judgement.split.counts,
        provenance={},
    )
    assert "| setting | macro AUROC | macro AP | macro F1 | accuracy | balanced accuracy |" in text
    assert "exactly one label is decided for an image" in text
    assert "with `label`, the one decided, `probability.LABEL`" in text
    assert "present where its probability" not in text and "LRAP" not in text
    head, rule, *rows = text.split("## Scores")[1].split("| setting")[1].split("\n\n")[0].splitlines()
    assert head.count("|") + 1 == rule.count("|") == 8
    assert {row.count("|") for row in rows} == {8}
