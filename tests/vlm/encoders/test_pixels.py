from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from cohort.decoding import decode
from cohort.errors import InputError
from cohort.geometry import apply_geometry
from vlm.encoder_names import name_for
from vlm.encoders import load_encoder
from vlm.encoders.pixels import NAMES


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
    with pytest.raises(InputError, match="encoder pixels has no deep features, having no layers; use"):
        load_encoder("pixels", features=("deep",))


def test_pixels_say_what_they_have_not():
    encoder = load_encoder("pixels")
    assert encoder.text_refusal == "encoder pixels has no text tower; zero-shot needs a CLIP model"
    assert encoder.backbone is None and encoder.logit_scale is None
    for name in ("pixels:64", "pixels:99999x99999x3", "pixels:16x16x1 "):
        with pytest.raises(InputError, match=f"unknown encoder '{name}'; pixels come as pixels:8x8x1, "):
            load_encoder(name)


def test_colour_and_smaller_sides_are_the_means_of_squares():
    encoder = load_encoder("pixels:16x16x3", device="cpu")
    image_HWC = np.zeros((32, 32, 3), np.uint8)
    image_HWC[0, 2, 2], image_HWC[1, 3, 2] = 255, 102  # in the second square of the blue channel
    features_D = encoder.image_features(image_HWC[None])[0]
    assert encoder.width == len(features_D) == 16 * 16 * 3
    assert features_D[2 * 256 + 1] == pytest.approx((1 + 0.4) / 4) == features_D.sum()


def test_names_lead_to_encoders_of_their_own():
    loaded = [load_encoder(name, device="cpu") for name in NAMES]
    assert [encoder.name for encoder in loaded] == list(NAMES)
    assert len({encoder.fingerprint for encoder in loaded}) == 6


def test_pixels_mean_colour_on_images_in_colour():
    assert name_for("pixels", 3) == "pixels:32x32x3" in NAMES
    assert name_for("pixels", 1) == "pixels" and name_for("biomedclip", 3) == "biomedclip"


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
