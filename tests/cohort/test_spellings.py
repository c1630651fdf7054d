"""Names that look the same are one; names that are nearly the same are said."""

import pytest

from cohort.spellings import folded, one_spelling, seen, spelled_alike, taken_for_one

SAME = ["Müller", "Mu\u0308ller", "Mül\u200bler", "\ufeffMüller", " Müller ", "Mü\u00adller"]


def test_what_nobody_sees_makes_no_other_name():
    assert {seen(name) for name in SAME} == {"Müller"}
    assert seen("a  b\u00a0c") == "a b c" and seen("a-b") != seen("a–b")


@pytest.mark.parametrize(
    ("one", "other"),
    [("P1", "p1"), ("12", "12.0"), ("a-1", "a–1"), ("a-1", "a\u22121"), ("a-1", "a\u20111"), ("１２", "12")],
)
def test_what_nobody_means_is_folded(one, other):
    assert folded(one) == folded(other) and seen(one) != seen(other)


@pytest.mark.parametrize(("one", "other"), [("p1", "p2"), ("p10", "p1"), ("a-1", "a1"), ("1", "1.1")])
def test_other_names_stay_others(one, other):
    assert folded(one) != folded(other)


def test_the_first_spelling_is_kept():
    kept, replaced = one_spelling(["Mu\u0308ller", None, "Müller", "Meier", "Müller"])
    assert kept == ["Mu\u0308ller", None, "Mu\u0308ller", "Meier", "Mu\u0308ller"]
    assert replaced == [("Mu\u0308ller", "Müller")]
    (warning,) = taken_for_one("patients", replaced)
    assert r"'Mu\u0308ller' and 'M\xfcller'" in warning  # what cannot be seen is spelled out
    assert taken_for_one("patients", []) == []


def test_each_name_is_compared_with_the_first_that_it_may_stand_for():
    assert spelled_alike(["a", "A", "b", "a", "A.0"]) == [("a", "A"), ("a", "A.0")]
