"""One small study, analysed once for the tests of scores, report and model card."""

from types import SimpleNamespace

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
