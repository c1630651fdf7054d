"""The phantoms: their patients, and the cohort that is drawn of them."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from cohort.errors import InputError
from cohort.labels import CHEXPERT_14, NO_FINDING
from cohort.manifest import Cohort
from sample.findings import draw_radiograph
from sample.phantoms import LICENCE, PREVALENCE, draw_cohort, draw_phantoms, plan_phantoms, targets_of
from tests.sample.made_up import bit

FINDINGS = [label for label in CHEXPERT_14 if label != NO_FINDING]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    return draw_cohort(tmp_path_factory.mktemp("phantom") / "sample", images=80, size=64, seed=0)


def test_prevalences_are_as_skewed_as_those_of_iu_xray(plan):
    share = dict(zip(CHEXPERT_14, targets_of(plan).mean(axis=0), strict=True))
    assert 0.58 < share[NO_FINDING] < 0.70
    assert max(share[label] for label in FINDINGS) == share["Lung Opacity"]
    assert 0.10 < share["Lung Opacity"] < 0.16
    assert 0.08 < share["Cardiomegaly"] < 0.13
    assert min(share[label] for label in FINDINGS) == share["Pneumothorax"]
    assert 0.006 < share["Pneumothorax"] < 0.015


@pytest.mark.parametrize("seed", range(3))
def test_every_label_has_patients_for_three_sides_and_the_planned_number_of_them(seed):
    phantoms = plan_phantoms(1200, seed)
    patients = {phantom.patient for phantom in phantoms}
    for label, share in PREVALENCE.items():
        with_it = {phantom.patient for phantom in phantoms if label in phantom.findings}
        assert len(with_it) == max(3, round(share * len(patients)))


def test_findings_keep_company_as_causes_say(plan):
    targets = dict(zip(CHEXPERT_14, targets_of(plan).T.astype(bool), strict=True))

    def odds(a, b):
        return targets[b][targets[a]].mean() / targets[b].mean()

    assert odds("Edema", "Cardiomegaly") > 2
    assert odds("Pleural Effusion", "Atelectasis") > 1.5
    assert odds("Pneumonia", "Lung Opacity") > 5
    ages = np.array([phantom.body.age for phantom in plan])
    assert ages[targets["Cardiomegaly"]].mean() > ages.mean() + 3


def test_patients_have_one_to_four_films_on_which_chronic_findings_stay(plan):
    films = {}
    for phantom in plan:
        films.setdefault(phantom.patient, []).append(phantom)
    counts = np.bincount([len(group) for group in films.values()])
    assert len(counts) == 5 and (counts[1:] > 10).all()
    for group in films.values():
        assert len({phantom.body for phantom in group}) == 1
        assert len({"Cardiomegaly" in phantom.findings for phantom in group}) == 1
    resolved = [
        group
        for group in films.values()
        if "Lung Opacity" in group[0].findings and "Lung Opacity" not in group[-1].findings
    ]
    assert resolved


def test_the_cohort_has_the_promised_columns_files_and_split(cohort):
    assert cohort.labels == CHEXPERT_14
    assert cohort.drawn and cohort.modality == "chest radiograph" and cohort.licence == LICENCE
    assert len(cohort.present) == 80 and cohort.channels == 1
    assert set(cohort.column("split")) == {"train", "val", "test"}
    assert set(cohort.column("view")) == {"PA", "AP"}
    assert set(cohort.column("keep.sex")) == {"F", "M"}
    assert all(18 <= age <= 95 for age in cohort.column("keep.age"))
    assert all(cohort.column("keep.report"))
    files = cohort.files()
    for i, digest in enumerate(cohort.column("digest")):
        assert hashlib.sha256(files.read(i)).hexdigest() == digest
        assert files.decode(i).shape == (64, 64) and files.decode(i).dtype == np.uint8


def test_masks_on_the_disk_agree_with_the_labels(cohort):
    targets_NC = cohort.targets_NC()
    for image, targets_C in zip(cohort.images(), targets_NC, strict=True):
        with Image.open(cohort.folder / "masks" / f"{image}.png") as file:
            assert file.mode == "I;16"
            masks_HW = np.asarray(file)
        for label, target in zip(CHEXPERT_14, targets_C, strict=True):
            assert bit(masks_HW, label).any() == (target == 1 and label != NO_FINDING), (image, label)


def test_the_same_seed_draws_the_same_files_and_another_seed_others(cohort, tmp_path):
    again = draw_cohort(tmp_path / "again", images=80, size=64, seed=0)
    assert again.content_hash == cohort.content_hash
    for name in ("images", "masks"):
        for path in sorted((cohort.folder / name).iterdir()):
            assert path.read_bytes() == (again.folder / name / path.name).read_bytes()
    other = draw_cohort(tmp_path / "other", images=80, size=64, seed=1)
    assert other.content_hash != cohort.content_hash


def test_films_drawn_in_several_processes_equal_those_drawn_here(plan):
    part = plan[:110]
    images_NHW, masks_NHW = draw_phantoms(part, 32)
    assert images_NHW.shape == masks_NHW.shape == (110, 32, 32)
    assert images_NHW.dtype == np.uint8 and masks_NHW.dtype == np.uint16
    for n in (0, 60, 109):
        image_HW, masks_HW = draw_radiograph(part[n].body, part[n].pose, part[n].findings, 32)
        np.testing.assert_array_equal(images_NHW[n], image_HW)
        np.testing.assert_array_equal(masks_NHW[n], masks_HW)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 10}, "sample cohort: images must be at least 60, got 10"),
        ({"size": 16}, "sample cohort: size must be at least 32, got 16"),
        ({"seed": -1}, "sample cohort: seed must be at least 0, got -1"),
    ],
)
def test_a_sample_that_is_too_small_is_refused_in_one_line(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        draw_cohort(tmp_path / "sample", **arguments)
    assert not (tmp_path / "sample").exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"holds 'thesis.txt'"):
        draw_cohort(tmp_path, images=60, size=32)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
