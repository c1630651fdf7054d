import hashlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cohort.errors import InputError
from cohort.labels import CHEXPERT_14, NO_FINDING
from cohort.manifest import Cohort
from sample.anatomy import BOTH, KINDS, Finding, draw_body, draw_pose
from sample.appearance import SAMPLE, TRAINING
from sample.findings import draw_radiograph
from sample.phantoms import (
    LICENCE,
    OPACITIES,
    PREVALENCE,
    draw_cohort,
    draw_phantoms,
    plan_phantoms,
    positive_labels,
    targets_of,
)
from sample.reports import facts_of, negative_statements, positive_statement

FINDINGS = [label for label in CHEXPERT_14 if label != NO_FINDING]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    return draw_cohort(tmp_path_factory.mktemp("phantom") / "sample", images=80, size=64, seed=0)


@pytest.fixture(scope="module")
def plan():
    return plan_phantoms(1200, seed=0)


def body_and_pose(seed=0, appearance=SAMPLE, sex="M", view="PA"):
    rng = np.random.default_rng(seed)
    body = draw_body(rng, appearance, sex, 50)
    return body, replace(draw_pose(rng, appearance, view), rotation=0.0, shift_x=0.0, shift_y=0.0, scale=1.0)


def finding_of(label, *, side="left", zone="lower", severity=0.9, seed=1, kind=None):
    kinds = KINDS.get(label, ("",))
    return Finding(
        side=BOTH if label == "Edema" else side,
        zone=zone,
        kind=kinds[0] if kind is None else kind,
        severity=severity,
        seed=seed,
    )


def bit(masks_HW, label):
    return (masks_HW >> CHEXPERT_14.index(label) & 1).astype(bool)


# ------------------------------------------------------------------------------------------- one film


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


# --------------------------------------------------------------------------------------- the population


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


def test_a_report_says_what_is_there_and_denies_nothing_of_it(plan):
    for phantom in plan:
        stated = set().union(*(statement.asserts for statement in phantom.report))
        assert stated & set(CHEXPERT_14) == (set(phantom.findings) or {NO_FINDING})
        assert all(statement.true_of(phantom.facts) for statement in phantom.report)
        for statement in phantom.report:
            assert statement.text.endswith(".") and "  " not in statement.text
            assert "{" not in statement.text


def test_a_sentence_asserts_what_it_says_and_is_true_only_where_that_holds():
    rng = np.random.default_rng(0)
    right = finding_of("Pleural Effusion", side="right", severity=0.1, kind="meniscus")
    left = replace(right, side="left")
    both = replace(right, side=BOTH)
    facts = {
        side: facts_of({"Pleural Effusion": finding}, ["Pleural Effusion"])
        for side, finding in (("right", right), ("left", left), ("both", both))
    }
    statement = positive_statement("Pleural Effusion", right, rng)
    assert statement.asserts == {
        "Pleural Effusion",
        "Pleural Effusion: right",
        "Pleural Effusion: small",
    }
    assert [statement.true_of(facts[side]) for side in ("right", "left", "both")] == [True, False, True]
    bilateral = positive_statement("Pleural Effusion", both, rng)
    assert [bilateral.true_of(facts[side]) for side in ("right", "left", "both")] == [False, False, True]
    assert not replace(statement, denies=frozenset({"Edema"})).true_of(facts["right"] | {"Edema"})


def test_sentences_carry_side_zone_and_size():
    rng = np.random.default_rng(0)
    finding = finding_of("Pleural Effusion", side="right", severity=0.1, kind="meniscus")
    texts = {positive_statement("Pleural Effusion", finding, rng).text for _ in range(30)}
    assert "Small right pleural effusion." in texts
    bilateral = finding_of("Pleural Effusion", side=BOTH, severity=0.9, kind="meniscus")
    texts = {positive_statement("Pleural Effusion", bilateral, rng).text for _ in range(30)}
    assert "Blunting of both costophrenic angles by a large effusion." in texts
    denied = {statement.text for statement in negative_statements(["Cardiomegaly"])}
    assert "No pneumothorax is seen." in denied and "Heart size is normal." not in denied


# --------------------------------------------------------------------------------------------- the cohort


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
