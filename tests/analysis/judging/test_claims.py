"""What may be claimed, rule by rule, on tables written by hand."""

import re

import pandas as pd
import pytest

from analysis.judging.claims import (
    Said,
    average_claim,
    claimed,
    headline,
    label_claims,
    rules,
    unclaimed,
)
from analysis.judging.evaluation_set import SplitCounts
from trainables.baselines import LOGREG

NAN = float("nan")
BEST, PAPER = "trial/7", "published/paper"
OTHERS = {"best-1": BEST, "paper": PAPER}


def row_id(name):
    """The id of a row by its name; baselines are called by theirs."""
    return OTHERS.get(name, f"baseline/{name}")


SAID = Said(
    names={id: name for name, id in OTHERS.items()}
    | {f"baseline/{name}": name for name in ("pixels", "logreg", "logreg-deep", "zero-shot", "prevalence")},
    phrases={PAPER: "the published configuration"},
)


def score(metric, label, value, low=NAN, high=NAN, setting="best-1"):
    return {
        "setting": row_id(setting),
        "metric": metric,
        "label": label,
        "value": value,
        "low": low,
        "high": high,
        "labels_averaged": 1 if label else 5,
    }


def counts_of(positives=40, patients=30, negative=60, masked_patients=0):
    """A test split of one label and an image a patient but for the positives."""
    return SplitCounts(
        split="test",
        images=positives + negative + masked_patients,
        patients=patients + negative + masked_patients,
        scored_images=positives + negative,
        scored_patients=patients + negative,
        positives_C=[positives],
        patients_C=[patients],
        negative_patients_C=[negative],
        masked_C=[masked_patients],
    )


def comparisons(family="labels", half=0.1, f1=(0.2, 0.001), rare=(0, "Mass", 30), patients=80, **tests):
    """tests: opponent=(difference, Holm-adjusted p); `half` is half the width of each interval and what its
    margin of equivalence exceeds the difference by; `f1`: of the decisions against the label for every image;
    `rare`: labels below ten patients in an average, the rarest and its patients."""
    rows = [
        {
            "family": family,
            "first": BEST,
            "second": row_id(name.replace("_", "-")),
            "label": "Mass" if family == "labels" else "",
            "difference": difference,
            "low": difference - half,
            "high": difference + half,
            "within": abs(difference) + half,
            "needed": 400,
            "patients": patients,
            "rare_labels": rare[0],
            "rarest": rare[1],
            "rarest_patients": rare[2],
            "p_holm": p,
        }
        for name, (difference, p) in tests.items()
    ]
    if family == "labels" and rows:
        decided = {
            "family": "decisions",
            "second": row_id("all-positive"),
            "difference": f1[0],
            "p_holm": f1[1],
        }
        rows.append(rows[0] | decided)
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["family", "second", "label"])


def scores(auroc):
    return pd.DataFrame(
        [
            score("auroc", "Mass", auroc, 0.7, 0.9),
            score("average_precision", "Mass", 0.4, 0.3, 0.5),
            score("f1", "Mass", 0.5, 0.4, 0.6),
        ]
    )


def claim(auroc=0.8, counts=None, name="Mass", **tests):
    table = comparisons(**tests)
    (said,) = label_claims(scores(auroc), table, {"Mass": name}, BEST, counts_of(**(counts or {})), SAID)
    return said


def facts(sentence):
    """The numbers of a sentence, in its order."""
    return re.findall(r"[+−]?\d[\d,]*(?:\.\d+)?", sentence)


NAMES = {"Mass": "Mass"}


def test_no_positive_image_means_that_nothing_can_be_said():
    said = claim(auroc=NAN, counts={"positives": 0, "patients": 0})
    assert said.verdict == "none"
    assert said.sentence == "Mass: no positive image on test; nothing can be said."


def test_no_negative_image_means_that_nothing_can_be_said():
    said = claim(auroc=NAN, counts={"negative": 0})
    assert said.sentence == "Mass: no negative image on test; nothing can be said."


def test_nine_positive_patients_give_counts_and_no_claim():
    said = claim(counts={"positives": 12, "patients": 9})
    assert said.verdict == "counts only" and said.silent
    assert said.sentence == "Mass: 12 positive images of 9 patients on test; counts only, no claim."


def test_nine_negative_patients_give_what_nine_positive_ones_do():
    said = claim(counts={"patients": 30, "negative": 9})
    assert said.verdict == "counts only"
    assert "40 positive images of 30 patients, 9 patients with a negative one on test" in said.sentence


def test_one_of_a_kind_is_written_in_the_singular():
    assert "1 positive image of 1 patient on test" in claim(counts={"positives": 1, "patients": 1}).sentence


def test_decisions_that_do_not_beat_the_label_for_every_image_are_said_to_be_idle():
    for f1 in ((0.003, 0.6), (-0.1, 0.001)):
        said = claim(prevalence=(0.3, 0.001), f1=f1)
        assert said.idle_decisions and "not shown better than all-positive" in said.brief
        assert f"decisions (F1 0.500) not shown better than all-positive ({0.5 - f1[0]:.3f})" in said.finding
    assert not claim(prevalence=(0.3, 0.001), f1=(0.1, 0.01)).idle_decisions


def test_a_label_is_sorted_by_what_its_tests_say():
    said = claim(
        prevalence=(0.3, 0.001),
        pixels=(0.1, 0.049),
        logreg=(0.01, 0.9),
        paper=(-0.1, 0.03),
        zero_shot=(0.2, 0.05),
    )
    assert said.verdict == "above chance"
    assert said.better_than == ("pixels",)
    assert said.worse_than == ("paper",)
    assert said.undecided == ("logreg", "zero-shot")
    assert facts(said.sentence) == [
        *("0.800", "0.70", "0.90", "0.400", "0.30", "0.50", "40", "30"),
        *("0.001", "+0.100", "0.049", "−0.100", "0.030", "+0.010", "0.90", "+0.200", "0.050"),
    ]
    for named in ("Above chance", "better than raw pixels", "worse than the published configuration"):
        assert f"{named} (" in said.sentence
    assert said.brief.split("; ")[:3] == ["above chance", "better than pixels", "worse than paper"]
    assert said.brief.endswith("logreg, zero-shot")


@pytest.mark.parametrize(
    ("difference", "p", "verdict"),
    [
        (0.3, 0.049, "above chance"),
        (0.3, 0.05, "not above chance"),
        (-0.3, 0.01, "below chance"),
        (-0.3, 0.2, "not above chance"),
    ],
)
def test_chance_is_judged_by_the_adjusted_p_and_the_sign(difference, p, verdict):
    assert claim(prevalence=(difference, p)).verdict == verdict


def average(objective="macro_ap", auroc=0.8, **tests):
    table = pd.DataFrame(
        [
            score("macro_auroc", "", auroc, 0.7, 0.9),
            score("macro_ap", "", 0.5, 0.4, 0.6),
            score("macro_f1", "", 0.3, 0.2, 0.4),
        ]
    )
    return average_claim(table, comparisons("average", **tests), NAMES, BEST, objective, SAID)


def test_the_average_speaks_of_average_precision_and_of_how_many_labels():
    said = average(prevalence=(0.3, 0.0001), logreg=(0.01, 0.7))
    assert said.sentence.startswith("Average: macro average precision 0.500 (0.40 to 0.60) over 5 labels. ")
    assert facts(said.sentence)[3:] == ["5", "0.001", "+0.010", "0.70"] and "p < 0.001" in said.sentence
    assert (said.verdict, said.undecided) == ("above chance", ("logreg",))


def test_the_average_speaks_of_the_studys_objective():
    said = average("macro_f1", all_positive=(0.1, 0.02), logreg=(0.01, 0.7))
    assert said.sentence.startswith(
        "Average: macro F1 0.300 (0.20 to 0.40) over 5 labels. Above chance (Holm-adjusted p = 0.020); no "
    )
    assert said.undecided == ("logreg",)


def test_an_f1_below_that_of_all_positive_decisions_is_not_called_below_chance():
    assert average("macro_f1", all_positive=(-0.1, 0.001)).verdict == "not above chance"


def test_the_average_says_how_many_of_its_labels_are_rare_and_which_is_the_rarest():
    said = average(prevalence=(0.3, 0.001), rare=(4, "Mass", 2))
    assert "over 5 labels (4 of them with fewer than 10 patients on the smaller side, Mass with 2)." in (
        said.sentence
    )


def test_an_average_over_nine_patients_in_all_makes_no_claim():
    said = average(prevalence=(0.9, NAN), rare=(5, "Mass", 2), patients=9)
    assert said.silent and said.verdict == "counts only"
    assert said.sentence.startswith("Average: macro average precision") and "chance" not in said.sentence
    assert unclaimed([said]) == "" and claimed([said]) == [said]


@pytest.mark.parametrize(
    ("auroc", "difference", "verdict"),
    [(0.317, 0.1, "not above chance"), (0.317, -0.1, "below chance"), (0.6, 0.1, "above chance")],
)
def test_an_average_whose_rankings_point_the_other_way_is_never_above_chance(auroc, difference, verdict):
    assert average(auroc=auroc, prevalence=(difference, 0.001)).verdict == verdict


CHOSEN = "The configuration chosen on validation"


@pytest.mark.parametrize(
    ("objective", "reached", "end"),
    [
        (
            "macro_auroc",
            "macro AUROC 0.800 and macro average precision 0.500 over",
            "The strongest baseline, raw pixels, has 0.700: macro AUROC +0.200 (+0.100 to +0.300), "
            "Holm-adjusted p = 0.010, better.",
        ),
        (
            "macro_f1",
            "macro F1 0.450, macro AUROC 0.800 and macro average precision 0.500 over",
            "The strongest baseline, all-positive decisions, has 0.400: macro F1 +0.050 (−0.050 to "
            "+0.150), Holm-adjusted p = 0.20, neither a difference nor equivalence within 0.02 is shown "
            "(equivalence takes at least 400 test patients like these).",
        ),
    ],
)
def test_the_headline_rests_on_the_studys_objective(objective, reached, end):
    """By hand: raw pixels are the strongest by AUROC, all labels by F1, and neither by average precision."""
    values = {
        "best-1": (0.8, 0.5, 0.45),
        "prevalence": (0.5, 0.1, 0.05),
        "all-positive": (0.5, 0.1, 0.4),
        "pixels": (0.7, 0.3, 0.3),
        "logreg": (0.65, 0.48, 0.2),
    }
    table = pd.DataFrame(
        [
            score(metric, "", value, setting=setting)
            for setting, three in values.items()
            for metric, value in zip(("macro_auroc", "macro_ap", "macro_f1"), three, strict=True)
        ]
    )
    tests = comparisons("average", all_positive=(0.05, 0.2), logreg=(0.02, 0.2), pixels=(0.2, 0.01))
    said = headline(table, tests, BEST, objective, who=CHOSEN, plain=LOGREG, names=NAMES, test=counts_of())
    assert said.startswith(f"The configuration chosen on validation reaches {reached} 5 labels")
    assert said.endswith(f" {end}")


def test_the_headline_holds_the_answer_against_the_plain_method_and_a_stronger_baseline_only_where_another():
    table = pd.DataFrame(
        [
            score("macro_auroc", "", 0.8, 0.7, 0.9),
            score("macro_ap", "", 0.5, 0.4, 0.6),
            score("macro_ap", "", 0.1, setting="prevalence"),
            score("macro_ap", "", 0.48, 0.4, 0.56, setting="logreg"),
            score("macro_ap", "", 0.3, 0.2, 0.4, setting="pixels"),
        ]
    )
    tests = comparisons("average", prevalence=(0.4, 0.001), logreg=(0.02, 0.2), pixels=(0.2, 0.01))
    counts = counts_of(positives=1100, patients=56, negative=94, masked_patients=14)
    said = headline(table, tests, BEST, "macro_ap", who="It", plain=LOGREG, names=NAMES, test=counts)
    assert facts(said) == [
        *("0.800", "0.70", "0.90", "0.500", "0.40", "0.60", "5", "1,194", "150"),
        *("+0.020", "−0.080", "+0.120", "0.20", "0.02", "400"),
    ]
    assert "plain logistic regression" in said and "raw pixels" not in said


@pytest.mark.parametrize(
    ("difference", "half", "p", "verdict"),
    [
        (0.4, 0.1, 0.001, "better"),
        (-0.4, 0.1, 0.001, "worse"),
        (0.004, 0.015, 0.6, "equivalent within 0.02"),
        (
            0.006,
            0.015,
            0.6,
            "neither a difference nor equivalence within 0.02 is shown (equivalence takes at least 400 test "
            "patients like these)",
        ),
        (0.006, 0.005, 0.04, "better"),  # a difference may be shown and yet be small
    ],
)
def test_a_difference_is_called_by_its_side_or_equivalent_where_its_margin_is_small(
    difference, half, p, verdict
):
    table = pd.DataFrame(
        [
            score("macro_auroc", "", 0.8),
            score("macro_ap", "", 0.5),
            score("macro_ap", "", 0.1, setting="logreg"),
        ]
    )
    tests = comparisons("average", half=half, logreg=(difference, p))
    said = headline(table, tests, BEST, "macro_ap", who=CHOSEN, plain=LOGREG, names=NAMES, test=counts_of())
    assert said.endswith(f", {verdict}.")


def test_sentences_say_a_label_by_its_display_name_and_claims_keep_its_code():
    said = claim(name="lump", prevalence=(0.3, 0.001))
    assert said.label == "Mass" and said.sentence.startswith("lump: AUROC")
    silent = claim(name="lump", counts={"positives": 1, "patients": 1})
    assert silent.sentence.startswith("lump: 1 positive") and unclaimed([silent]).startswith("lump (1 ")


def test_the_rules_say_that_no_difference_shown_is_not_the_same_as_equal():
    assert "“no difference shown”, which is not the same as equal" in " ".join(rules("macro_ap"))
    assert "tested by macro AUROC, the objective" in " ".join(rules("macro_auroc"))
    assert "better decisions than any that are the same" in " ".join(rules("macro_f1"))


def test_labels_of_too_few_data_are_listed_with_their_counts():
    silent = claim(counts={"positives": 12, "patients": 9})
    assert unclaimed([silent, claim(prevalence=(0.3, 0.001))]) == "Mass (12 positive images of 9 patients)"
    assert unclaimed([claim(prevalence=(0.3, 0.001))]) == ""
