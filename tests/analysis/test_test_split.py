"""The door to the test labels."""

import numpy as np
import pytest

from analysis.test_split import open_test_labels
from cohort.errors import InputError
from tests.analysis.synthetic import finished_study


def test_a_test_split_without_positives_is_refused():
    study = finished_study(images=500)
    nothing = np.zeros(len(study.cohort.labels), dtype=bool)
    with pytest.raises(InputError, match="none of the study's labels has 2 positive patients on test"):
        open_test_labels(study.cohort, study.cohort.indices("test"), nothing)
