"""The images that somebody names: as the cohort spells them."""

from dataclasses import replace
from unicodedata import normalize

import pyarrow as pa
import pytest

from analysis.images_named import images_named
from cohort.errors import InputError
from tests.analysis.synthetic import made_up_cohort


def test_images_are_found_in_either_of_unicodes_spellings_once_each():
    cohort = made_up_cohort(4, seed=0)
    stored = [normalize("NFC", "Ä"), normalize("NFD", "Ö"), "plain", "other"]
    cohort = replace(cohort, table=cohort.table.set_column(0, "image", pa.array(stored)))
    asked = [normalize("NFD", "Ä"), normalize("NFC", "Ö"), normalize("NFD", "Ö"), "plain"]
    assert images_named(asked, cohort) == tuple(stored[:3])
    with pytest.raises(InputError, match=r"analysis\.looked_at: no image 'nobody' in"):
        images_named(["plain", "nobody"], cohort)
