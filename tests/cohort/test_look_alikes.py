"""Names and paths in either of Unicode's spellings."""

import os
from unicodedata import normalize

import pytest

from cohort.errors import InputError
from cohort.look_alikes import as_stored, as_written

COMPOSED, APART = normalize("NFC", "Müller"), normalize("NFD", "Müller")


def test_the_exact_spelling_comes_first_and_another_one_is_found():
    assert as_written(COMPOSED, [APART, COMPOSED], "here") == COMPOSED
    assert as_written(COMPOSED, ["Mueller", APART], "here") == APART
    assert as_written(APART, [COMPOSED], "here") == COMPOSED
    assert as_written(APART, ["Muller"], "here") is None


def test_two_names_that_look_alike_are_refused_where_neither_is_spelled_so():
    both = [normalize(form, "ǖ") for form in ("NFC", "NFD")]
    with pytest.raises(InputError, match=r"^here: .* two names that look alike, '\\u01d6' and 'u"):
        as_written("ü\u0304", both, "here")


def test_a_path_that_is_not_there_stays_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / APART).mkdir()
    assert as_stored(f"{COMPOSED}/größe.png") == f"{APART}/größe.png"
    for path in ("größe.png", "../ü/ö", "/ü/ö", "a/b", "", "ü\0"):
        assert as_stored(path) == path
    (tmp_path / APART / "ä").touch()
    assert as_stored(os.path.join(tmp_path, COMPOSED, "ä")) == os.path.join(tmp_path, APART, "ä")
