"""Every trainable on every kind of encoder, from the study file to what the exported bundle predicts."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from cohort.manifest import Cohort
from study import Study
from tests.study.conftest import settings, square_cohort
from tests.trainables.towers import build_tower
from tests.vlm.encoders import small_timm
from vlm.bundle import Bundle

pytestmark = pytest.mark.usefixtures("warm_ray")

CONVOLUTIONS = ("small_cnn", "resnet")
METHODS = {"full", "lora", "last_blocks", "bitfit"}
BY_TIMM = [(model, features) for model in small_timm.NAMES for features in ("pooled", "deep")]
BY_OPEN_CLIP = [
    (model, features) for model in ("vit", "timm") for features in ("projected", "pooled", "deep")
]
ENCODERS = [*BY_TIMM, *BY_OPEN_CLIP, ("resnet", "projected"), ("resnet", "deep")]


def but_slow(encoders, quick):
    return [pytest.param(*one, marks=() if one in quick else pytest.mark.slow) for one in encoders]


def of_encoder(folder, model, features, **changes):
    """The settings of a study on a model that is written into `folder`."""
    square_cohort(folder / "cohort")
    build = small_timm.build_small_timm if model in small_timm.NAMES else build_tower
    return settings(folder) | {"encoder": build(model, folder / model), "features": features} | changes


def validation(study):
    cohort = Cohort.open(study.config.cohort)
    rows_N = cohort.indices("val")
    files = cohort.column("file")
    return [cohort.images_root / files[row] for row in rows_N], cohort.targets_NC(rows_N)


def predicted(folder, images):
    bundle = Bundle.load(folder, device="cpu")
    table = bundle.predict(images).to_pandas()
    return table[[f"probability.{label}" for label in bundle.labels]].to_numpy()


@pytest.mark.slow
@pytest.mark.parametrize("model, features", ENCODERS)
def test_each_method_of_fine_tuning_predicts_from_its_bundle_what_it_was_chosen_for(
    tmp_path, model, features
):
    config = of_encoder(tmp_path, model, features, trainable="fine_tune")
    fixed = {"epochs": 1, "last_blocks": 1} | (
        {"lora_targets": "convolutions"} if model in CONVOLUTIONS else {}
    )
    config |= {
        "search": {"configurations": 5, "fixed": fixed},
        "fine_tune": {"keep": 5, "precision": "fp32", "early_stopping": "none"},
    }
    study = Study.from_dict(config).run(echo=lambda line: None)
    records = study.records
    assert [record.state for record in records.values()] == ["COMPLETE"] * 5
    assert {record.params["method"] for record in records.values()} == METHODS
    images, targets_NC = validation(study)
    for record in records.values():
        folder = study.export(tmp_path / "bundle", trial=record.number)
        reached = average_precision_score(targets_NC, predicted(folder, images))
        assert reached == pytest.approx(record.objective, abs=1e-6)
    answer, _ = study.predictor()
    reached = average_precision_score(targets_NC, predicted(study.export(tmp_path / "bundle"), images))
    assert reached == pytest.approx(answer.origin.objective, abs=1e-6)


@pytest.mark.parametrize("model, features", but_slow(ENCODERS, [("small_swin", "deep")]))
def test_a_linear_probe_predicts_from_its_bundle_what_the_study_answers(tmp_path, model, features):
    config = of_encoder(tmp_path, model, features) | {"search": {"configurations": 4}}
    study = Study.from_dict(config).run(echo=lambda line: None)
    images, _ = validation(study)
    answer, cohort = study.predictor()
    models = study.models(study.judgement())
    features_ND = models.features(answer.encoder, answer.precision)
    expected_NC = answer.probabilities(features_ND[cohort.indices("val")])
    found_NC = predicted(study.export(tmp_path / "bundle", with_encoder=True), images)
    np.testing.assert_allclose(found_NC, expected_NC, atol=1e-5, rtol=0)
