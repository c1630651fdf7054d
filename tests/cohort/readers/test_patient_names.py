"""Patients that only names tell."""

import pytest

from cohort.errors import InputError
from cohort.readers.patient_names import likely_expression, patients_of_names

CHEXPERT = [f"CheXpert-v1.0/train/patient{n // 2:05}/study{n % 2 + 1}/view1_frontal.jpg" for n in range(40)]
EYEPACS = [f"{n // 2 + 10}_{'left' if n % 2 else 'right'}" for n in range(40)]
KERMANY = [
    *(f"PNEUMONIA/person{n // 3}_{'bacteria' if n % 2 else 'virus'}_{n}.jpeg" for n in range(30)),
    *(f"NORMAL/IM-{n // 2:04}-0001-{n}.jpeg" for n in range(10)),
    "NORMAL/healthy.jpeg",
]
NIH = [f"images_{n % 3:03}/images/{n // 2:08}_{n % 2:03}.png" for n in range(40)]
PAD = [f"PAT_{n // 2}_{n}_{n * 7}.png" for n in range(40)]


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        (CHEXPERT, [f"patient{n // 2:05}" for n in range(40)]),
        (EYEPACS, [f"{n // 2 + 10}" for n in range(40)]),
        (NIH, [f"{n // 2:08}" for n in range(40)]),
        (PAD, [f"PAT_{n // 2}" for n in range(40)]),
        (
            KERMANY,
            [
                *(f"person{n // 3}" for n in range(30)),
                *(f"IM-{n // 2:04}" for n in range(10)),
                "healthy.jpeg",
            ],
        ),
    ],
)
def test_names_that_tell_patients_give_an_expression_that_finds_them(names, patients):
    assert patients_of_names(names, likely_expression(names)) == patients


@pytest.mark.parametrize(
    "names",
    [
        [f"ISIC_{n:07}.jpg" for n in range(40)],
        [f"ISIC_{n:07}_downsampled.jpg" for n in range(40)],
        [f"benign/benign ({n}).png" for n in range(40)],
        [f"fold{n % 10}/scan {n}.png" for n in range(40)],
        [f"{n}.png" for n in range(40)],
        [f"1.2.276.0.7230010.3.1.4.8323329.{n // 2}.1517874485.{n}.dcm" for n in range(40)],
        ["a.png"],
    ],
)
def test_other_names_tell_nobody(names):
    assert likely_expression(names) is None


def test_the_first_group_counts():
    names = ["p10/s50414267/x.jpg", "p11/s2/y.jpg"]
    assert patients_of_names(names, r"(?:^|/)p(\d+)/(s\d+)") == ["10", "11"]
    assert patients_of_names(names, r"(?P<who>p[()\d]+)") == ["p10", "p11"]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("patient[0-9]+", "has no group"),
        ("(a", "not a regular expression"),
        ("(?=a)(b)", "not a regular expression"),
        ("(a" + "a" * 200 + ")", "more than 200 characters"),
        ("(q[0-9])", r"finds nothing in 2 of 2 names, 'p1_2.png'"),
    ],
)
def test_other_expressions_are_refused(expression, message):
    with pytest.raises(InputError, match=message):
        patients_of_names(["p1_2.png", "p2_2.png"], expression)


def test_an_expression_that_would_take_others_ages_takes_none():
    assert patients_of_names(["a" * 5000 + "b"], "((?:a+)+b)") == ["a" * 5000 + "b"]
