from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from cohort.decoding import decode
from cohort.errors import InputError
from cohort.geometry import apply_geometry
from vlm.encoders import load_encoder


def test_pixels_are_gray_values_row_by_row():
    encoder = load_encoder("pixels")
    image_HW = np.zeros((32, 32), np.uint8)
    image_HW[0, 1], image_HW[1, 0] = 255, 51
    features_D = encoder.image_features(image_HW[None, :, :, None])[0]
    assert (features_D[1], features_D[32], features_D.sum()) == (1, pytest.approx(0.2), pytest.approx(1.2))
    assert encoder.width == 1024
    with pytest.raises(InputError, match="encoder pixels has no text tower"):
        encoder.text_features(["edema"])
    with pytest.raises(InputError, match="encoder pixels has no weights to save"):
        encoder.save(Path("nowhere"))
    with pytest.raises(InputError, match="encoder pixels has no features before a projection"):
        load_encoder("pixels", features="pooled")


def test_pixels_say_what_they_have_not():
    encoder = load_encoder("pixels")
    assert encoder.text_refusal == "encoder pixels has no text tower; zero-shot needs a CLIP model"
    assert encoder.backbone is None and encoder.logit_scale is None
    with pytest.raises(InputError, match="unknown encoder 'pixels:64'; did you mean 'pixels'"):
        load_encoder("pixels:64")


def test_a_ridge_on_pixels_reaches_the_floor_of_real_radiographs(real_data):
    import pandas as pd

    table = pd.read_csv(real_data / "nih_cxr64" / "labels.csv")
    files = {path.stem: path for path in (real_data / "nih_cxr64" / "images").rglob("*.png")}
    encoder = load_encoder("pixels", device="cpu")
    paths = [files[Path(image).stem] for image in table["image_id"]]
    images_NHW = [apply_geometry(decode(path.read_bytes(), str(path)), encoder.geometry) for path in paths]
    x_ND = encoder.image_features(np.stack(images_NHW)[..., None]).numpy()
    train_N, test_N = table["split"] == "train", table["split"] == "test"
    for label, floor in (("Effusion", 0.73), ("Cardiomegaly", 0.75)):
        ridge = Ridge(alpha=100).fit(x_ND[train_N], table[label][train_N])
        assert roc_auc_score(table[label][test_N], ridge.predict(x_ND[test_N])) >= floor
