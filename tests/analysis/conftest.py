"""Two small studies, analysed once for the tests of scores, report and model card."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.scores import analyze
from tests.analysis.synthetic import finished_study


@pytest.fixture(scope="package")
def analysed(tmp_path_factory):
    """The made-up study, its analysis folder and its result; nothing is masked, so sklearn can follow."""
    folder = tmp_path_factory.mktemp("analysis")
    study = finished_study(images=900, masked=0.0)
    result = analyze(
        **vars(study), folder=folder, bootstrap=1000, title="a <b>study</b>", metadata={"revision": "abc123"}
    )
    return SimpleNamespace(study=study, folder=folder, result=result)


@pytest.fixture(scope="package")
def scores(analysed):
    """The made-up study's score table by setting, metric and label."""
    return analysed.result.scores.set_index(["setting", "metric", "label"])


@pytest.fixture(scope="package")
def uninformed(tmp_path_factory):
    """A study whose only trial is noise, on an encoder without a text tower and a cohort called IU-Xray."""
    study = finished_study(images=600, has_text=False)
    rng = np.random.default_rng(0)
    head = study.trials[1].head
    noise = replace(head, weight_DC=rng.normal(size=head.weight_DC.shape).astype(np.float32))
    study = replace(
        study,
        trials=[replace(study.trials[1], head=noise)],
        cohort=replace(study.cohort, source="IU-Xray, CheXpert-14 from MeSH"),
    )
    return analyze(**vars(study), folder=tmp_path_factory.mktemp("uninformed"), bootstrap=400, seed=1)
