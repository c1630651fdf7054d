"""Reports: true of their film, and every sentence of what it says."""

from dataclasses import replace

import numpy as np

from cohort.labels import CHEXPERT_14, NO_FINDING
from sample.anatomy import BOTH
from sample.reports import facts_of, negative_statements, positive_statement
from tests.sample.made_up import finding_of


def test_a_report_says_what_is_there_and_denies_nothing_of_it(plan):
    for phantom in plan:
        stated = set().union(*(statement.asserts for statement in phantom.report))
        assert stated & set(CHEXPERT_14) == (set(phantom.findings) or {NO_FINDING})
        assert all(statement.true_of(phantom.facts) for statement in phantom.report)
        for statement in phantom.report:
            assert statement.text.endswith(".") and "  " not in statement.text
            assert "{" not in statement.text


def test_a_sentence_asserts_what_it_says_and_is_true_only_where_that_holds():
    rng = np.random.default_rng(0)
    right = finding_of("Pleural Effusion", side="right", severity=0.1, kind="meniscus")
    left = replace(right, side="left")
    both = replace(right, side=BOTH)
    facts = {
        side: facts_of({"Pleural Effusion": finding}, ["Pleural Effusion"])
        for side, finding in (("right", right), ("left", left), ("both", both))
    }
    statement = positive_statement("Pleural Effusion", right, rng)
    assert statement.asserts == {
        "Pleural Effusion",
        "Pleural Effusion: right",
        "Pleural Effusion: small",
    }
    assert [statement.true_of(facts[side]) for side in ("right", "left", "both")] == [True, False, True]
    bilateral = positive_statement("Pleural Effusion", both, rng)
    assert [bilateral.true_of(facts[side]) for side in ("right", "left", "both")] == [False, False, True]
    assert not replace(statement, denies=frozenset({"Edema"})).true_of(facts["right"] | {"Edema"})


def test_sentences_carry_side_zone_and_size():
    rng = np.random.default_rng(0)
    finding = finding_of("Pleural Effusion", side="right", severity=0.1, kind="meniscus")
    texts = {positive_statement("Pleural Effusion", finding, rng).text for _ in range(30)}
    assert "Small right pleural effusion." in texts
    bilateral = finding_of("Pleural Effusion", side=BOTH, severity=0.9, kind="meniscus")
    texts = {positive_statement("Pleural Effusion", bilateral, rng).text for _ in range(30)}
    assert "Blunting of both costophrenic angles by a large effusion." in texts
    denied = {statement.text for statement in negative_statements(["Cardiomegaly"])}
    assert "No pneumothorax is seen." in denied and "Heart size is normal." not in denied
