"""One film: its anatomy, and what each finding changes in it."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cohort.labels import CHEXPERT_14, NO_FINDING
from sample.anatomy import KINDS, draw_body, draw_pose
from sample.appearance import SAMPLE, TRAINING
from sample.findings import draw_radiograph
from sample.phantoms import OPACITIES, positive_labels
from tests.sample.made_up import bit, body_and_pose, finding_of

FINDINGS = [label for label in CHEXPERT_14 if label != NO_FINDING]


def test_lungs_are_darker_than_heart_and_abdomen_and_the_heart_lies_to_the_patients_left():
    for seed in range(5):
        image_HW, masks_HW = draw_radiograph(*body_and_pose(seed), {}, 128)
        assert image_HW.dtype == np.uint8 and masks_HW.dtype == np.uint16
        assert not masks_HW.any()
        right_lung, left_lung = image_HW[40:70, 26:42].mean(), image_HW[30:50, 86:102].mean()
        spine, abdomen = image_HW[40:100, 60:68].mean(), image_HW[112:, 40:88].mean()
        assert max(right_lung, left_lung) + 25 < min(spine, abdomen)
        # Beside the spine, at the height of the heart, the image's right is brighter.
        assert image_HW[72:84, 76:84].mean() > image_HW[72:84, 44:52].mean() + 10


@pytest.mark.parametrize("label", FINDINGS)
def test_a_finding_changes_the_film_where_its_mask_says_and_grows_with_severity(label):
    body, pose = body_and_pose(3)
    pose = replace(pose, noise=0.0)
    normal_HW, _ = draw_radiograph(body, pose, {}, 128)
    changes = []
    for severity in (0.2, 0.9):
        image_HW, masks_HW = draw_radiograph(body, pose, {label: finding_of(label, severity=severity)}, 128)
        change_HW = np.abs(image_HW.astype(float) - normal_HW)
        mask_HW = bit(masks_HW, label)
        assert mask_HW.any()
        outside = change_HW[~(masks_HW != 0)].mean()
        assert change_HW[mask_HW].mean() > 2 * outside
        changes.append(change_HW.sum())
    assert changes[1] > changes[0]


@pytest.mark.parametrize(
    ("label", "kind"), [(label, kind) for label, kinds in KINDS.items() for kind in sorted(set(kinds))]
)
@pytest.mark.parametrize("side", ["left", "right"])
def test_every_kind_of_finding_has_its_mask_on_its_side(label, kind, side):
    zone = "lower" if label == "Atelectasis" else "middle"
    for seed in range(3):
        body, pose = body_and_pose(seed)
        _, masks_HW = draw_radiograph(
            body, pose, {label: finding_of(label, side=side, zone=zone, kind=kind, seed=seed)}, 96
        )
        rows, columns = np.nonzero(bit(masks_HW, label))
        assert len(rows) >= 4
        if kind not in ("tubes", "sternal wires", "central line", "pacemaker"):
            assert (columns.mean() > 48) == (side == "left")


def test_edema_consolidation_and_pneumonia_are_lung_opacities_too():
    body, pose = body_and_pose()
    for label in OPACITIES:
        _, masks_HW = draw_radiograph(body, pose, {label: finding_of(label)}, 64)
        np.testing.assert_array_equal(bit(masks_HW, label), bit(masks_HW, "Lung Opacity"))
        assert positive_labels({label: finding_of(label)}) == tuple(
            name for name in CHEXPERT_14 if name in (label, "Lung Opacity")
        )


def test_a_pneumothorax_is_darker_and_an_effusion_brighter_than_the_lung():
    body, pose = body_and_pose(1)
    pose = replace(pose, noise=0.0)
    normal_HW, _ = draw_radiograph(body, pose, {}, 128)
    for label, sign in (("Pneumothorax", -1), ("Pleural Effusion", 1)):
        image_HW, masks_HW = draw_radiograph(body, pose, {label: finding_of(label)}, 128)
        change = image_HW.astype(float) - normal_HW
        assert sign * change[bit(masks_HW, label)].mean() > 4


def test_the_same_patient_looks_alike_at_other_sizes():
    body, pose = body_and_pose(2)
    pose = replace(pose, noise=0.0)
    findings = {"Pleural Effusion": finding_of("Pleural Effusion")}
    small_HW, small_masks_HW = draw_radiograph(body, pose, findings, 64)
    large_HW, large_masks_HW = draw_radiograph(body, pose, findings, 192)
    shrunk_HW = np.asarray(Image.fromarray(large_HW).resize((64, 64), Image.Resampling.BOX), float)
    assert np.corrcoef(shrunk_HW.ravel(), small_HW.ravel())[0, 1] > 0.97
    area = bit(small_masks_HW, "Pleural Effusion").mean()
    assert bit(large_masks_HW, "Pleural Effusion").mean() == pytest.approx(area, rel=0.15)


def test_the_two_appearances_are_different_distributions():
    def brightness_and_contrast(appearance):
        films = [
            draw_radiograph(draw_body(rng, appearance, "F", 50), draw_pose(rng, appearance, "PA"), {}, 48)[0]
            for rng in map(np.random.default_rng, range(40))
        ]
        return np.mean(films), np.mean([film.std() for film in films])

    (sample_mean, sample_std), (training_mean, training_std) = map(
        brightness_and_contrast, (SAMPLE, TRAINING)
    )
    assert abs(sample_mean - training_mean) > 5
    assert sample_std > training_std + 5


def test_an_unknown_finding_is_refused():
    with pytest.raises(ValueError, match=r"findings must be among Cardiomegaly.*got 'No Finding'"):
        draw_radiograph(*body_and_pose(), {NO_FINDING: finding_of("Cardiomegaly")}, 64)
