"""Labels: vocabularies, domains, and the policies on uncertain, blank and "No Finding" cells."""

import numpy as np
import pytest

from cohort.errors import InputError
from cohort.labels import (
    CHEXPERT_14,
    DOMAINS,
    MODALITIES,
    NIH_14,
    NO_FINDING,
    LabelPolicy,
    apply_policy,
    did_you_mean,
    domain_columns,
    likely_modality,
)

NAN = np.nan
LABELS = ["Edema", "Fracture", NO_FINDING]


def targets(rows, **policy):
    """The targets as nested lists, with None where masked."""
    targets_NC, _ = apply_policy(np.array(rows, dtype=float), LABELS, LabelPolicy(**policy))
    return [[None if np.isnan(cell) else cell for cell in row] for row in targets_NC]


def test_the_vocabularies_have_fourteen_names_each_and_a_domain_for_every_finding():
    assert len(set(CHEXPERT_14)) == len(set(NIH_14)) == 14
    sorted_names = [name for names in DOMAINS.values() for name in names]
    assert len(sorted_names) == len(set(sorted_names))
    assert set(sorted_names) == (set(CHEXPERT_14) | set(NIH_14)) - {NO_FINDING}


def test_the_paper_counts_nine_pulmonary_findings_of_the_fourteen():
    assert {domain: len(columns) for domain, columns in domain_columns(CHEXPERT_14).items()} == {
        "Cardiovascular": 2,
        "Skeletal": 1,
        "Device": 1,
        "Pulmonary": 9,
    }


def test_domain_columns_are_positions_and_leave_out_what_has_no_domain():
    labels = ["Fracture", "bacterial", "Edema", NO_FINDING, "Pneumonia"]
    assert domain_columns(labels) == {"Skeletal": [0], "Pulmonary": [2, 4]}


@pytest.mark.parametrize(
    "labels",
    [
        ["COVID-19", "SARS", "Pneumonia"],
        ["Pneumonia", NO_FINDING],
        ["Mass", "Nodule"],
        ["Mass", "Fracture", "cyst", "benign"],
    ],
)
def test_labels_that_share_a_name_with_a_domain_by_chance_have_none(labels):
    assert domain_columns(labels) == {}


def test_domains_are_those_of_the_published_vocabularies():
    assert list(domain_columns(NIH_14)) == ["Cardiovascular", "Pulmonary", "Gastrointestinal"]
    assert set(domain_columns([*NIH_14, NO_FINDING, "COVID-19"])) == set(domain_columns(NIH_14))


@pytest.mark.parametrize(("rule", "expected"), [("ignore", None), ("zeros", 0), ("ones", 1)])
def test_an_uncertain_cell_becomes_what_the_rule_says(rule, expected):
    assert targets([[-1, 0, 0]], uncertain=rule) == [[expected, 0, 0]]


def test_an_uncertain_rule_a_label_leaves_the_others_ignored():
    result = targets([[-1, -1, 0]], uncertain={"Edema": "ones"})
    assert result == [[1, None, 0]]


def test_a_blank_cell_is_masked_or_negative():
    assert targets([[NAN, 1, NAN]], blank="missing") == [[None, 1, None]]
    assert targets([[NAN, 1, NAN]], blank="negative") == [[0, 1, 0]]


@pytest.mark.parametrize(
    ("row", "complement", "strict"),
    [
        ([0, 0, 1], 1, 1),
        ([0, 0, 0], 1, 0),  # another abnormality, outside the vocabulary
        ([1, 0, 0], 0, 0),
        ([1, 0, 1], 0, 0),
        ([-1, 0, 1], 1, None),
        ([NAN, 0, 1], None, None),
        ([NAN, 1, 1], 0, 0),
        ([NAN, NAN, NAN], None, None),
    ],
)
def test_no_finding_by_complement_and_strictly(row, complement, strict):
    rows = [row, [0, 0, 1]]
    assert targets(rows, no_finding="complement")[0][2] == complement
    assert targets(rows, no_finding="strict")[0][2] == strict
    assert targets(rows, no_finding="as-given")[0][2] == (None if np.isnan(row[2]) else row[2])


def test_an_uncertain_finding_counts_against_no_finding_where_it_counts_as_positive():
    assert targets([[-1, 0, 1]], uncertain="ones", no_finding="complement") == [[1, 0, 0]]


def test_strictly_without_a_column_of_its_own_needs_only_the_findings():
    result = targets([[0, 0, NAN], [0, 1, NAN], [-1, 0, NAN]], no_finding="strict")
    assert [row[2] for row in result] == [1, 0, None]


def test_a_blank_finding_counts_as_negative_for_no_finding_where_blanks_are_negative():
    assert targets([[NAN, 0, NAN]], blank="negative", no_finding="complement") == [[0, 0, 1]]


def test_no_finding_beside_a_finding_is_reported_whatever_the_rule():
    rows = np.array([[1, 0, 1], [0, 0, 1], [-1, 0, 1], [0, 1, 1]], dtype=float)
    for rule in ("complement", "strict", "as-given"):
        assert apply_policy(rows, LABELS, LabelPolicy(no_finding=rule))[1] == [0, 3]


def test_targets_are_float32_and_the_cells_given_stay_as_they_were():
    raw = np.array([[1, -1, NAN]])
    result, _ = apply_policy(raw, LABELS, LabelPolicy())
    assert result.dtype == np.float32
    np.testing.assert_array_equal(raw, [[1, -1, NAN]])


def test_another_cell_than_1_0_minus_1_or_blank_is_refused():
    with pytest.raises(InputError, match=r"^row 1, label 'Fracture': must be 1, 0, -1 .* got 2$"):
        apply_policy(np.array([[0, 0, 0], [0, 2, 0]]), LABELS, LabelPolicy())


def test_a_rule_for_an_unknown_label_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"unknown label 'Oedema'; did you mean 'Edema'\?"):
        apply_policy(np.zeros((1, 3)), LABELS, LabelPolicy({"Oedema": "ones"}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"uncertain": "maybe"}, "uncertain rule must be one of ignore, zeros, ones, got 'maybe'"),
        (
            {"uncertain": {"Edema": "1"}},
            "uncertain rule of 'Edema' must be one of ignore, zeros, ones, got '1'",
        ),
        ({"blank": "zero"}, "blank rule must be one of negative, missing, got 'zero'"),
        ({"no_finding": ""}, "no_finding rule must be one of complement, strict, as-given, got ''"),
    ],
)
def test_a_policy_is_validated_when_built(fields, message):
    with pytest.raises(InputError) as error:
        LabelPolicy(**fields)
    assert str(error.value) == message


def test_a_policy_is_described_in_words_with_the_rules_of_single_labels():
    policy = LabelPolicy({"Edema": "ones", "Fracture": "zeros"}, "negative", "strict")
    rules = "uncertain: Edema ones, Fracture zeros, others ignore; blank: negative"
    assert policy.described(["Edema", NO_FINDING]) == f"{rules}; No Finding: strict"
    assert policy.described(["Edema", "Fracture"]) == rules


def test_a_policy_survives_its_dictionary():
    for policy in (LabelPolicy(), LabelPolicy({"Edema": "ones"}, "negative", "strict")):
        assert LabelPolicy.from_dict(policy.to_dict()) == policy


def test_did_you_mean_names_the_nearest_or_all():
    assert did_you_mean("pleural effusion", CHEXPERT_14) == "did you mean 'Pleural Effusion'?"
    assert did_you_mean("xyz", ["a", "b"]) == "there are: a, b"


@pytest.mark.parametrize(
    ("labels", "modality"),
    [
        (CHEXPERT_14, "chest radiograph"),
        (["Effusion", "Cardiomegaly", NO_FINDING], "chest radiograph"),
        (["Effusion", "Melanoma"], "medical image"),
    ],
)
def test_the_labels_suggest_what_the_images_are(labels, modality):
    assert likely_modality(labels) == modality and modality in MODALITIES
