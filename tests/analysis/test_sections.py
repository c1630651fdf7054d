"""Each section says what the judgement holds, and nothing that it does not."""

import importlib
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from analysis.analyze import usual
from analysis.inside.sections import overlay, separability
from analysis.judging.sections import (
    calibration,
    claims,
    curves,
    data,
    gap,
    labels,
    limits,
    published_rules,
    scores,
    search,
)
from analysis.row_styles import BEST, RowStyle
from analysis.section import Cell, Folded, Picture, Row, Section, Table, Terms, Words
from analysis.sections import INSIDE, OF_MULTICLASS, SECTIONS
from analysis.terminal import summary
from cohort.ledger import Access
from scoring.decision_rule import DecisionRule
from scoring.operating_points import OperatingPoint
from tests.analysis.synthetic import named
from trainables.baselines import PROMPTED


def of_kind(section: Section, kind: type) -> list:
    return [part for part in section.parts if isinstance(part, kind)]


def texts(row: Row) -> list[str]:
    return [cell.text if isinstance(cell, Cell) else cell for cell in row.cells]


def noted(section: Section) -> str:
    return " ".join(part.text for part in of_kind(section, Words) if part.kind == "note")


def with_rule(judgement, rule: DecisionRule):
    """The judgement with another rule under its best row."""
    rows = tuple(replace(row, rule=rule) if row.id == judgement.best else row for row in judgement.rows)
    return replace(judgement, rows=rows)


@pytest.mark.parametrize("name", SECTIONS)
def test_rows_of_every_table_fill_its_columns(analysed, of_classes, name):
    inside = name in INSIDE
    module = importlib.import_module(f"analysis.{'inside' if inside else 'judging'}.sections.{name}")
    assert module.TITLE
    study = of_classes if name in OF_MULTICLASS else analysed
    for table in of_kind(module.run(study.models if inside else study.judgement), Table):
        for row in table.rows:
            widths = [cell.across if isinstance(cell, Cell) else 1 for cell in row.cells]
            assert sum(widths) == len(table.columns)


# Against the baselines


def test_scores_has_a_line_a_row_the_best_marked_and_trials_below_a_rule(analysed):
    (ours,) = of_kind(scores.run(analysed.judgement), Table)
    (papers,) = of_kind(published_rules.run(analysed.judgement), Table)
    for table in (ours, papers):
        own = [row for row in table.rows if row.kind != "published"]
        assert [texts(row)[0] for row in own] == [row.name for row in analysed.judgement.rows]
        assert [texts(row)[0] for row in own if row.kind == "best"] == ["best-1"]
        assert [texts(row)[0] for row in own if row.rule] == ["paper"]
    row = analysed.result.scores.query("setting == 'best-1' and metric == 'macro_ap'").iloc[0]
    assert f"{row['value']:.3f}" in texts(next(row for row in ours.rows if row.kind == "best"))


def test_published_rows_stand_only_with_the_published_labels_on_radiographs_of_patients(analysed, uninformed):
    def published(judgement):
        (table,) = of_kind(published_rules.run(judgement), Table)
        return [texts(row) for row in table.rows if row.kind == "published"]

    assert published(analysed.judgement)[0] == [
        "zero-shot, as published",
        "0.105",
        "0.000",
        "0.250",
        "7.70",
        "–",
    ]
    assert len(published(analysed.judgement)) == 3
    assert published(uninformed.judgement) == []
    drawn = replace(analysed.judgement, cohort=replace(analysed.judgement.cohort, drawn=True))
    assert published(drawn) == []


def test_scores_says_whose_thresholds_are_fixed(analysed):
    said = noted(scores.run(analysed.judgement))
    assert (
        "were fitted on validation, those of random, prevalence, all-positive, paper are fixed at 0.5."
        in said
    )


def test_scores_says_why_there_is_no_zero_shot_row(analysed, uninformed):
    assert "encoder synthetic has no text tower" in noted(scores.run(uninformed.judgement))
    assert "no zero-shot row" not in noted(scores.run(analysed.judgement))


def test_the_prompts_of_zero_shot_are_printed_label_by_label(analysed, uninformed):
    cohort = replace(
        analysed.judgement.cohort,
        label_names={"Edema": "oedema of the lungs"},
        label_prompts={"Fracture": ("a broken rib", "a broken clavicle")},
    )
    (fold,) = of_kind(scores.run(replace(analysed.judgement, cohort=cohort)), Folded)
    (terms,) = [part for part in fold.parts if isinstance(part, Terms)]
    said = {name: (code, sentences) for name, code, sentences in terms.entries}
    assert list(said)[:2] == ["Enlarged Cardiomediastinum", "Cardiomegaly"]
    assert said["oedema of the lungs"][0] == "Edema"
    assert "a chest X-ray showing oedema of the lungs · " in said["oedema of the lungs"][1]
    assert said["Fracture"][1].startswith("a broken rib · a broken clavicle")
    pair = analysed.judgement.row(PROMPTED).origin.params["prompts"] == "pair"
    assert ("against: no pleural effusion" in said["Pleural Effusion"][1]) == pair
    assert of_kind(scores.run(uninformed.judgement), Folded) == []


# What may be claimed


def test_claims_say_whether_the_test_split_was_read_for_anything_else(analysed):
    def last_rule(accessed):
        split = replace(analysed.judgement.split, accessed=accessed)
        section = claims.run(replace(analysed.judgement, split=split))
        (fold,) = of_kind(section, Folded)
        return fold.parts[0].lines[-1]

    own = Access("2030-01-01", "analyze this", "c" * 64, analysed.judgement.predictions.content_hash)
    other = Access("2030-01-02", "compare encoders", "c" * 64)
    assert "used for nothing but these numbers" in last_rule([own])
    said = last_rule([own, other, other])
    assert "used for nothing but" not in said and "compare encoders (2 times)" in said


def test_claims_begin_with_the_average_and_end_with_labels_of_too_few_data(analysed):
    (terms,) = of_kind(claims.run(analysed.judgement), Terms)
    assert terms.entries[0][0] == "on average" and terms.kinds[0] == "best"
    assert terms.entries[-1][0] == "no claim" and terms.kinds[-1] == "quiet"
    silent = [claim.label for claim in analysed.result.claims if claim.silent]
    assert silent and all(label in terms.entries[-1][2] for label in silent)
    assert (
        len(terms.entries)
        == len(terms.kinds)
        == 2 + sum(not claim.silent for claim in analysed.result.claims if claim.label)
    )


def test_a_report_says_where_no_claim_was_possible(analysed, monkeypatch):
    assert "possible" not in claims.run(analysed.judgement).parts[0].text
    monkeypatch.setattr("analysis.judging.comparisons.draws_for", lambda family, asked, level: 100)
    assert "No claim about a label was possible" in claims.run(analysed.judgement).parts[0].text


# Label by label


def test_labels_come_by_their_smaller_side_with_counts_of_both_splits(analysed):
    table = of_kind(labels.run(analysed.judgement), Table)[0]
    sides = [tuple(map(int, texts(row)[-1].split(" · "))) for row in table.rows]
    fewer = [min(both) for both in sides]
    assert fewer == sorted(fewer, reverse=True)
    train_N, test_N = (analysed.study.cohort.indices(split) for split in ("train", "test"))
    targets_NC = analysed.study.cohort.targets_NC()
    for row in table.rows:
        c = analysed.study.cohort.labels.index(texts(row)[0])
        assert row.cells[-3].text == f"{(targets_NC[train_N, c] == 1).sum():.0f}"
        assert row.cells[-3].small == f"{targets_NC[train_N, c].mean():.1%}"
        assert row.cells[-2].text == f"{(targets_NC[test_N, c] == 1).sum():.0f}"


def test_a_silent_label_has_words_in_place_of_scores(analysed):
    silent = {claim.label: claim for claim in analysed.result.claims if claim.silent}
    for row in of_kind(labels.run(analysed.judgement), Table)[0].rows:
        assert (row.kind == "quiet") == (texts(row)[0] in silent)
        if row.kind == "quiet":
            few = silent[texts(row)[0]].verdict == "counts only"
            with_it = texts(row)[-1].split(" · ")[0]
            patients = "1 positive patient" if with_it == "1" else f"{with_it} positive patients"
            assert texts(row)[1] == f"no claim: {patients if few else 'no positive image'}"


def test_decisions_stand_with_their_counts_and_the_f1_of_all_positive(analysed):
    judgement = analysed.judgement
    section = labels.run(judgement)
    table = next(table for table in of_kind(section, Table) if table.title == "Decisions")
    targets_NC, decided_NC = judgement.split.targets_NC, judgement.answer.test_decisions_NC
    idle = {claim.name for claim in judgement.claims if claim.idle_decisions}
    written = section.tables["label_decisions"].set_index("label")
    for row in table.rows:
        c = judgement.cohort.labels.index(texts(row)[0])
        tn, fp, fn, tp = confusion_matrix(targets_NC[:, c], decided_NC[:, c], labels=[0, 1]).ravel()
        assert [int(text) for text in texts(row)[2:6]] == [tp, fp, tn, fn]
        own = written.loc[texts(row)[0]]
        assert [own[name] for name in ("tp", "fp", "tn", "fn")] == [tp, fp, tn, fn]
        if row.kind != "quiet":
            assert texts(row)[8] == f"{tn / (tn + fp):.3f}"
            assert texts(row)[-1] == f"{2 * (tp + fn) / (2 * (tp + fn) + fp + tn):.3f}"
            assert (row.cells[-1].small == "no gain shown") == (texts(row)[0] in idle)


def test_only_labels_whose_rule_shares_the_global_threshold_are_called_shared(analysed):
    judgement, count = analysed.judgement, len(analysed.study.cohort.labels)
    shared_C = np.zeros(count, dtype=bool)
    shared_C[judgement.cohort.labels.index("No Finding")] = True
    rule = DecisionRule(strategy="per_label", thresholds_C=np.full(count, 0.3), shared_C=shared_C)
    section = labels.run(with_rule(judgement, rule))
    cells = {texts(row)[0]: row.cells[1] for row in of_kind(section, Table)[1].rows}
    assert {label for label, cell in cells.items() if cell.small == "shared"} == {"No Finding"}
    assert "“shared” marks labels" in noted(section)


def test_fixed_thresholds_are_neither_shared_nor_fitted(analysed):
    section = labels.run(with_rule(analysed.judgement, DecisionRule.fixed(len(analysed.study.cohort.labels))))
    assert "Threshold strategy: fixed at 0.5." in noted(section)
    assert "shared" not in noted(section)


def test_domains_of_few_patients_have_no_scores(analysed):
    domains = of_kind(labels.run(analysed.judgement), Table)[-1]
    assert domains.title == "By domain"
    for row in domains.rows:
        assert (texts(row)[3] == "–") == (int(texts(row)[2]) < 10)


# Curves and operating points


def test_every_label_of_which_something_can_be_claimed_has_its_curves(analysed):
    judgement = analysed.judgement
    section = curves.run(judgement)
    spoken = [claim.label for claim in judgement.claims if claim.label and not claim.silent]
    pictures = of_kind(section, Picture)
    assert [picture.alt.split(" of ")[1].split(":")[0] for picture in pictures] == spoken
    assert all(re.fullmatch(r"curves_\d\d_[A-Za-z ]+", picture.name) for picture in pictures)
    silent = [claim.label for claim in judgement.claims if claim.silent]
    assert silent and all(label in noted(section) for label in silent)
    assert of_kind(section, Table) == [] and section.tables == {}


def test_curves_stand_with_baselines_chance_and_a_band_around_the_best(analysed):
    judgement = analysed.judgement
    picture = next(one for one in of_kind(curves.run(judgement), Picture) if "No Finding" in one.name)
    c = judgement.cohort.labels.index("No Finding")
    target_N = judgement.split.targets_NC[:, c]
    roc, precision = picture.figure.axes
    assert [line.get_label() for line in roc.lines[:3]] == ["logreg", "pixels", "best-1"]
    for axes in (roc, precision):
        (band,) = axes.collections
        assert len(band.get_paths()[0].vertices) > len(curves.GRID)  # both ends of most places
    for row, line in zip(("logreg", "pixels", "best-1"), roc.lines, strict=False):
        auroc = roc_auc_score(target_N, named(judgement, row).test_scores_NC[:, c])
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(auroc)
    assert precision.lines[-1].get_ydata()[0] == pytest.approx(target_N.mean())


def test_a_label_of_few_negatives_says_that_they_are_few(analysed):
    split = analysed.judgement.split
    turned = replace(
        split,
        counts=[
            replace(one, patients_C=[100] * len(split.labels), negative_patients_C=[9] * len(split.labels))
            for one in split.counts
        ],
    )
    points = (OperatingPoint.parse("sensitivity 0.9"),)
    study = replace(analysed.judgement.study, operating_points=points)
    (table,) = of_kind(curves.run(replace(analysed.judgement, split=turned, study=study)), Table)
    quiet = [texts(row)[1] for row in table.rows if row.kind == "quiet"]
    assert quiet and set(quiet) == {"no claim: 9 negative patients"}


def test_the_kept_columns_stand_in_settings_with_their_objective_and_in_the_forest(analysed):
    judgement = analysed.judgement
    settings = judgement.shown(judgement.settings).set_index("setting")
    assert np.isfinite(settings.loc["metadata", "validation"])
    assert np.isnan(settings.loc["random", "validation"])
    (picture,) = (part for part in of_kind(labels.run(judgement), Picture) if part.name == "forest")
    legend = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert "metadata" in legend


def test_an_operating_point_is_a_table_and_a_file(analysed, tmp_path):
    points = (OperatingPoint.parse("sensitivity 0.9"), OperatingPoint.parse("specificity 1"))
    judgement = replace(analysed.judgement, study=replace(analysed.judgement.study, operating_points=points))
    section = curves.run(judgement)
    tables = of_kind(section, Table)
    assert [table.title for table in tables] == [
        "Sensitivity of 0.9 on validation",
        "Specificity of 1.0 on validation",
    ]
    silent = {claim.label for claim in judgement.claims if claim.silent}
    for table in tables:
        assert [texts(row)[0] for row in table.rows] == list(judgement.cohort.labels)
        for row in table.rows:
            assert (row.kind == "quiet") == (texts(row)[0] in silent)
            assert sum(cell.across if isinstance(cell, Cell) else 1 for cell in row.cells) == 6
    assert section.tables["operating_points"] is judgement.operating_points


# How much was luck?


def test_the_gap_is_validation_minus_test(analysed):
    table = of_kind(gap.run(analysed.judgement), Table)[0]
    assert table.columns[-1] == "gap"
    best = analysed.result.gap.set_index("setting").loc["best-1"]
    assert best["gap"] == pytest.approx(best["validation"] - best["test"])
    wanted = f"{best['validation'] - best['test']:+.3f}".replace("-", "−")
    assert texts(next(row for row in table.rows if row.kind == "best"))[-1] == wanted


def test_finalists_stand_with_mean_and_deviation_of_their_repeats(analysed):
    table = of_kind(gap.run(analysed.judgement), Table)[1]
    assert [texts(row)[0] for row in table.rows] == ["best-1", "best-2", "best-3"]
    seeds = analysed.study.facts.repeats[41]["seeds"]
    assert texts(table.rows[0])[2] == f"{np.mean(seeds):.3f} ± {np.std(seeds, ddof=1):.3f}"


def test_patients_too_few_to_be_split_anew_leave_a_dash(analysed):
    facts = replace(analysed.judgement.study, repeats={41: {"seeds": [0.4, 0.5], "splits": []}})
    (row,) = of_kind(gap.run(replace(analysed.judgement, study=facts)), Table)[1].rows
    assert texts(row)[-1] == "–"


def test_without_repeats_there_is_no_table_of_them(analysed):
    judgement = replace(analysed.judgement, study=replace(analysed.judgement.study, repeats={}))
    assert len(of_kind(gap.run(judgement), Table)) == 1


# The search, calibration


def test_configurations_are_folded_with_their_strategies(analysed):
    section = search.run(analysed.judgement)
    (table,) = section.parts[-1].parts
    assert table.columns == ["parameter", "paper", "best-1", "best-2", "best-3"]
    assert [texts(row)[0] for row in table.rows] == [
        "trial number",
        "epochs",
        "learning rate",
        "loss",
        "threshold shrinkage",
        "threshold strategy",
    ]
    assert texts(table.rows[-1])[1] == "fixed"  # the paper's probabilities are cut at 0.5
    assert [part.name for part in of_kind(section, Picture)] == [
        "search_history",
        "search_learning_rate",
        "search_weight_decay",
        "search_epochs",
        "search_loss",
        "search_pos_weight_power",
        "search_normalisation",
        "learning_curves",
    ]


def test_reliability_draws_only_groups_of_enough_predictions():
    rng = np.random.default_rng(0)
    probs_NC = rng.random((400, 2))
    targets_NC = (rng.random((400, 2)) < probs_NC).astype(np.float64)
    probs_NC[:5, 0] = 0.001  # five in a group of their own
    drawn = [(RowStyle("best-1", BEST), probs_NC)]
    figure = calibration.reliability(targets_NC, drawn, np.array([True, False]))
    x, y = figure.axes[0].lines[0].get_data()
    assert min(x) > 0.02
    assert np.abs(x - y).max() < 0.2


def test_a_pool_on_the_line_does_not_hide_labels_that_are_off_it(analysed):
    """One label's probabilities are 0.2 too high, the other's 0.2 too low."""
    targets_NC = np.stack([np.arange(100) < 30, np.arange(100) < 70], axis=1).astype(float)
    split = replace(
        analysed.judgement.split,
        targets_NC=targets_NC,
        patients_N=np.arange(100),
        labels=("rare", "common"),
        averaged_C=np.ones(2, dtype=bool),
    )
    table = calibration.calibration_table(split, {"best-1": np.full((100, 2), 0.5)}).set_index("label")
    assert table.loc[["rare", "common"], "error"].to_list() == pytest.approx([0.2, 0.2])
    assert table.loc["", "error"] == pytest.approx(0)
    assert table.loc["rare", "observed"] == 0.3 and table.loc["rare", "patients"] == 30


def test_every_averaged_label_has_its_calibration_beside_the_pooled_one(analysed):
    section = calibration.run(analysed.judgement)
    (table,) = of_kind(section, Table)
    names = [texts(row)[0] for row in table.rows]
    averaged_C = analysed.judgement.split.averaged_C
    assert names == [*np.array(analysed.judgement.cohort.labels)[averaged_C], "all of them pooled"]
    assert set(section.tables["calibration"]["setting"]) == {"logreg", "paper", "best-1"}


def test_scores_that_only_rank_are_not_held_against_shares_of_positives(analysed):
    judgement = analysed.judgement
    rows = tuple(replace(row, ranks_only=row.id == judgement.best) for row in judgement.rows)
    (picture,) = of_kind(calibration.run(replace(judgement, rows=rows)), Picture)
    drawn = [line.get_label() for line in picture.figure.axes[0].lines]
    assert "logreg" in drawn and judgement.answer.name not in drawn


def test_the_published_configuration_is_drawn_once_where_it_is_the_best(published_best, analysed):
    def drawn(judgement):
        curves, history = (
            next(part.figure for part in search.run(judgement).parts if getattr(part, "name", "") == name)
            for name in ("learning_curves", "search_history")
        )
        forest = next(part.figure for part in of_kind(labels.run(judgement), Picture))
        reliability = of_kind(calibration.run(judgement), Picture)[0].figure
        return [
            [line.get_label() for line in curves.axes[1].get_lines()],
            *(
                [text.get_text().split(" 0.")[0] for legend in figure.legends for text in legend.get_texts()]
                for figure in (history, forest, reliability)
            ),
            list(judgement.shown(judgement.gap)["setting"]),
        ]

    assert drawn(published_best)[0] == ["paper = best-1", "best-2", "best-3"]
    assert all("paper" in names for names in drawn(analysed.judgement))
    assert not any("paper" in names for names in drawn(published_best))
    again = next(table for table in of_kind(gap.run(published_best), Table) if table.title)
    assert "paper" not in [texts(row)[0] for row in again.rows]


def test_display_names_stand_wherever_a_label_is_shown(analysed):
    named = {"No Finding": "healthy", "Edema": "oedema", "Fracture": "broken bone"}
    cohort = replace(analysed.judgement.cohort, label_names=named)
    facts = replace(analysed.judgement.study, operating_points=(OperatingPoint("sensitivity", 0.9),))
    judgement = replace(analysed.judgement, cohort=cohort, study=facts)
    models = replace(analysed.models, judgement=judgement)
    found = []
    for name in usual(judgement.cohort):
        inside = name in INSIDE
        module = importlib.import_module(f"analysis.{'inside' if inside else 'judging'}.sections.{name}")
        found.append(module.run(models if inside else judgement))
    words = repr(found)
    forest = of_kind(labels.run(judgement), Picture)[0].figure
    words += repr([tick.get_text() for tick in forest.axes[0].get_yticklabels()]) + summary(judgement)
    for label, name in named.items():
        assert name in words
        # The fold of the prompts alone gives the code too, which a reader of the tables as files needs.
        assert words.count(f"'{label}'") == 1 and f"{label} (" not in words
        assert f"curve of {label}" not in words
    assert set(judgement.scores["label"]) == set(analysed.result.scores["label"])


# Data, limits


def test_data_counts_every_split_and_names_where_all_came_from(analysed):
    section = data.run(analysed.judgement)
    (table,), (terms,) = of_kind(section, Table), of_kind(section, Terms)
    assert table.columns[1:] == ["train", "val", "test", "masked"]
    counts = analysed.judgement.split.counts
    assert texts(table.rows[0])[1:4] == [f"{one.images:,} ({one.patients:,})" for one in counts]
    said = " ".join(value for _, _, value in terms.entries)
    for piece in ("c" * 16, "f" * 16, "uncertain: ignore", "abc123", "scikit-learn", "rows read 912"):
        assert piece in said
    assert "terms of use" not in [name for name, _, _ in terms.entries]


def test_data_states_the_terms_of_use_where_there_are_any(analysed):
    cohort = replace(analysed.judgement.cohort, licence="CC BY 4.0")
    (terms,) = of_kind(data.run(replace(analysed.judgement, cohort=cohort)), Terms)
    assert ("terms of use", "", "CC BY 4.0") in terms.entries


def test_zero_shot_on_codes_is_a_limit_until_they_have_names(analysed, uninformed):
    def said(judgement, **names):
        codes = ("nv", "bkl", "MLGNT", "melanoma", "Mass", *judgement.cohort.labels[5:])
        cohort = replace(judgement.cohort, labels=codes, label_names=names)
        renamed = replace(judgement, cohort=cohort)
        renamed.__dict__["claims"] = judgement.claims
        return of_kind(limits.run(renamed), Words)[0].lines[-1]

    assert "look like codes to a text tower: nv, bkl, MLGNT. Give" in said(analysed.judgement)
    assert ": bkl. Give" in said(analysed.judgement, nv="melanocytic nevus", MLGNT="malignant lesion")
    named = said(analysed.judgement, nv="melanocytic nevus", MLGNT="malignant", bkl="keratosis")
    assert "codes" not in named and "codes" not in said(uninformed.judgement)


def test_drawn_images_are_called_phantoms(analysed):
    cohort = replace(analysed.study.cohort, drawn=True)
    assert limits.limits_of(cohort, analysed.result.claims)[0].startswith("The images are drawn phantoms.")
    named = replace(analysed.study.cohort, source="a table named phantom")
    assert "phantom" not in limits.limits_of(named, analysed.result.claims)[0]


# Multiclass labels


def test_scores_of_multiclass_labels_have_accuracy_balanced_accuracy_and_kappa(of_classes):
    table = of_kind(scores.run(of_classes.judgement), Table)[0]
    assert [name.split(" ↑")[0] for name in table.columns[4:]] == [
        "accuracy",
        "balanced accuracy",
        "Cohen's kappa",
    ]
    said = noted(scores.run(of_classes.judgement))
    assert "Labels are multiclass" in said and "are fixed at the most probable label" in said


def test_the_threshold_of_a_multiclass_label_is_explained(of_classes):
    said = noted(labels.run(of_classes.judgement))
    assert "highest log(probability) − logit(threshold) is decided, one an image" in said
    fixed = with_rule(of_classes.judgement, DecisionRule.fixed(4, multiclass=True))
    assert "Threshold strategy: fixed, the most probable label." in noted(labels.run(fixed))


def test_separability_says_how_many_labels_are_told_and_beside_what_the_published_ratio_stands(analysed):
    section = separability.run(analysed.models)
    table = section.tables["separability"]
    assert set(table["setting"]) == {"frozen", "pixels"}
    summary = section.parts[0].text
    counts = re.findall(r"(frozen|pixels) (\d+) of (\d+)", summary)
    mine = table[(table["metric"] == "logistic_accuracy") & (table["label"] != "")]
    for name, told, of in counts:
        own = mine[mine["setting"] == name]
        assert (int(told), int(of)) == ((own["p_adjusted"] < 0.05).sum(), len(own))
    words = " ".join(part.text for part in section.parts if isinstance(part, Words))
    ratio = table[(table["metric"] == "published.ratio") & (table["setting"] == "frozen")].iloc[0]
    assert f"the features as they are have {ratio['value']:.2f}" in words
    published = [row for part in section.parts if isinstance(part, Table) for row in part.rows]
    assert sum("as published" in getattr(row.cells[0], "text", "") for row in published) == 3
    names = {part.name for part in section.parts if isinstance(part, Picture)}
    assert names == {"separability", "projection_labels", "projection_normal", "projection_domains"}


def test_projections_of_multiclass_labels_know_which_of_them_is_normal(of_classes):
    section = separability.run(of_classes.models)
    names = {part.name for part in section.parts if isinstance(part, Picture)}
    assert names == {"separability", "projection_labels", "projection_normal"}


def test_without_trimap_its_projections_are_left_out_and_the_remedy_is_said(analysed, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimap", None)
    section = separability.run(analysed.models)
    assert "pip install 'radtune[projections]'" in noted(section)
    drawn = [one for one in section.parts if isinstance(one, Picture) and one.name.startswith("projection")]
    assert drawn and not any("TriMap" in one.alt for one in drawn)


def test_without_image_files_the_overlay_section_says_so(analysed):
    section = overlay.run(analysed.models)
    assert "The images are not there to be overlaid" in section.parts[0].text and not section.tables
