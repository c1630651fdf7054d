"""The embedded sample: a cohort of drawn chest radiograph phantoms with findings, masks and reports.

It exists so that everything can be tried without a data set, not to learn anything about medicine. A patient
has an anatomy, an age, a sex, latent severities (of illness, heart failure and infection) and from them
findings; each patient has one to four films on which the findings persist, grow, shrink or resolve.

Shape legend: N images, P patients, C labels (the 14 of CheXpert), H height, W width.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
from PIL import Image
from scipy.special import expit
from tqdm import tqdm

from cohort.annotations import SOFTWARE, Region, mask_region, write_annotations
from cohort.errors import InputError
from cohort.facts import CohortFacts
from cohort.files import replacing_folder
from cohort.labels import CHEXPERT_14, NO_FINDING, LabelPolicy
from cohort.manifest import Cohort
from cohort.splits import stratified_split, too_rare_for_three_sides
from cohort.writing import check_output_folder, keep_test_access, write_manifest
from sample.anatomy import BOTH, KINDS, LEFT, RIGHT, Body, Finding, Pose, draw_body, draw_pose
from sample.appearance import SAMPLE, Appearance
from sample.findings import draw_radiograph
from sample.reports import Statement, facts_of, write_report

LICENCE = "drawn by radtune; no restriction"
DRAWER = "the drawing"
"""Who annotated the sample: exact masks of what was drawn."""

# Share of patients with each finding. As skewed as IU-Xray's (protocol.md), except that the rarest are
# somewhat more frequent than its 0.5 %, so that 1,200 images have positives on three sides of a split.
PREVALENCE: dict[str, float] = {
    "Enlarged Cardiomediastinum": 0.020,
    "Cardiomegaly": 0.100,
    "Lung Opacity": 0.105,
    "Lung Lesion": 0.045,
    "Edema": 0.020,
    "Consolidation": 0.016,
    "Pneumonia": 0.022,
    "Atelectasis": 0.065,
    "Pneumothorax": 0.014,
    "Pleural Effusion": 0.048,
    "Pleural Other": 0.022,
    "Fracture": 0.036,
    "Support Devices": 0.046,
}

# What makes a finding likelier: age (per 18 years above 55), being a man, and three latent severities of the
# patient, in units of the log odds: illness, heart failure, infection.
_CAUSES: dict[str, tuple[float, float, float, float, float]] = {
    "Enlarged Cardiomediastinum": (0.8, 0.0, 0.2, 0.7, 0.0),
    "Cardiomegaly": (0.6, -0.2, 0.4, 1.1, 0.0),
    "Lung Opacity": (0.2, 0.0, 0.7, 0.2, 0.9),
    "Lung Lesion": (0.6, 0.4, 0.2, 0.0, 0.0),
    "Edema": (0.3, 0.0, 0.7, 2.0, 0.0),
    "Consolidation": (0.0, 0.0, 0.6, 0.0, 2.0),
    "Pneumonia": (0.1, 0.0, 0.5, 0.0, 2.2),
    "Atelectasis": (0.3, 0.1, 1.0, 0.6, 0.4),
    "Pneumothorax": (-0.5, 0.8, 1.0, 0.0, 0.0),
    "Pleural Effusion": (0.3, 0.0, 0.9, 1.4, 0.6),
    "Pleural Other": (0.5, 0.4, 0.3, 0.2, 0.2),
    "Fracture": (0.3, 0.3, 0.5, 0.0, 0.0),
    "Support Devices": (0.3, 0.0, 1.6, 0.7, 0.2),
}

# Probability that a later film still shows the finding; 0.7 for those not named.
_LASTING = {
    "Enlarged Cardiomediastinum": 1.0,
    "Cardiomegaly": 1.0,
    "Lung Lesion": 0.95,
    "Pleural Other": 1.0,
    "Fracture": 0.9,
    "Support Devices": 0.75,
}

# Findings that are opacities of the lung, as in CheXpert's hierarchy, where a labeller sets the parent too.
OPACITIES = ("Edema", "Consolidation", "Pneumonia")

FEWEST_IMAGES = 60
SMALLEST_SIZE = 32

# Below this a pool of processes costs more time than it saves.
_POOL_FROM = 100


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """A film that is to be drawn, and what is known about it."""

    image: str
    patient: str
    study: str
    body: Body
    pose: Pose
    findings: Mapping[str, Finding]
    report: tuple[Statement, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Positive labels in the order of `CHEXPERT_14`, "No Finding" among them."""
        return positive_labels(self.findings)

    @property
    def facts(self) -> frozenset[str]:
        """What a caption may truly state of the film: see `sample.reports`."""
        return facts_of(self.findings, self.labels)


def positive_labels(findings: Mapping[str, Finding]) -> tuple[str, ...]:
    """Labels of a film with these findings: Lung Opacity is implied by those that are one, No Finding by
    none."""
    present = set(findings) or {NO_FINDING}
    if present & set(OPACITIES):
        present.add("Lung Opacity")
    return tuple(label for label in CHEXPERT_14 if label in present)


def targets_of(phantoms: Sequence[Phantom]) -> np.ndarray:
    """float32 (N, C) of 0 and 1, columns in the order of `CHEXPERT_14`."""
    return np.array(
        [[label in phantom.labels for label in CHEXPERT_14] for phantom in phantoms], dtype=np.float32
    )


def plan_phantoms(
    images: int,
    seed: int,
    appearance: Appearance = SAMPLE,
    prevalence: Mapping[str, float] = PREVALENCE,
) -> list[Phantom]:
    """Invent `images` films and their patients; nothing is drawn yet. The same arguments give the same plan.

    `prevalence` is the share of patients with each finding. The number of patients with a finding is that
    share rounded, at least three (one for each side of a split), not a matter of chance; who they are is.
    """
    rng = np.random.default_rng(seed)
    films_P: list[int] = []
    ill: list[float] = []
    while sum(films_P) < images:
        illness = rng.normal()
        ill.append(illness)
        films_P.append(min(1 + int(rng.binomial(3, expit(-1.1 + 0.5 * illness))), images - sum(films_P)))
    patients = len(films_P)
    men_P = rng.random(patients) < 0.5
    ages_P = np.clip(rng.normal(52, 18, patients), 18, 95).round().astype(int)
    illness_P, failing_P, infected_P = np.array(ill), rng.normal(size=patients), rng.normal(size=patients)
    causes_PK = np.stack([(ages_P - 55) / 18, men_P, illness_P, failing_P, infected_P], axis=1)

    findings_P: list[dict[str, Finding]] = [{} for _ in range(patients)]
    for label, share in prevalence.items():
        # Weighted sampling without replacement: the highest of log weight + Gumbel noise.
        score_P = causes_PK @ np.array(_CAUSES[label]) + rng.gumbel(size=patients)
        for p in np.argsort(-score_P)[: min(patients, max(3, round(share * patients)))]:
            findings_P[p][label] = _invent(rng, label, findings_P[p])

    digits = len(str(patients))
    phantoms = []
    for p, films in enumerate(films_P):
        own = np.random.default_rng((seed, p))
        body = draw_body(own, appearance, "M" if men_P[p] else "F", int(ages_P[p]))
        for film in range(films):
            view = "AP" if own.random() < expit(-1.7 + 1.1 * illness_P[p]) else "PA"
            findings = {
                label: replace(
                    finding, severity=float(np.clip(finding.severity + own.normal(0, 0.12), 0.05, 1))
                )
                for label, finding in findings_P[p].items()
                if film == 0 or own.random() < _LASTING.get(label, 0.7)
            }
            patient = f"p{p:0{digits}d}"
            phantoms.append(
                Phantom(
                    image=f"{patient}-{film + 1}",
                    patient=patient,
                    study=f"{patient}-s{film + 1}",
                    body=body,
                    pose=draw_pose(own, appearance, view),
                    findings=findings,
                    report=tuple(write_report(findings, positive_labels(findings), own)),
                )
            )
    return phantoms


def _invent(rng: np.random.Generator, label: str, others: Mapping[str, Finding]) -> Finding:
    """Where and how severe a patient's new finding is, in accord with those he or she already has."""
    side = str(rng.choice([LEFT, RIGHT]))
    zone = str(rng.choice(["upper", "middle", "lower"], p=[0.25, 0.3, 0.45]))
    kind = str(rng.choice(KINDS[label])) if label in KINDS else ""
    if label in ("Cardiomegaly", "Enlarged Cardiomediastinum"):
        side, zone = "", ""
    elif label == "Edema":
        side, zone = BOTH, ""
    elif label == "Atelectasis":
        zone = "lower"
    elif label == "Pleural Effusion":
        zone = ""
        failing = "Edema" in others or "Cardiomegaly" in others
        beside = others.get("Atelectasis")
        if rng.random() < (0.5 if failing else 0.15):
            side = BOTH
        elif beside is not None and rng.random() < 0.7:
            side = beside.side
    elif label == "Support Devices":
        zone = ""
        if "Pneumothorax" in others:
            kind, side = "chest drain", others["Pneumothorax"].side
        elif kind == "pacemaker":
            side = LEFT if rng.random() < 0.85 else RIGHT
        elif kind == "central line":
            side = RIGHT if rng.random() < 0.75 else LEFT
    elif label == "Pneumothorax" or kind == "clavicle":
        zone = ""
    return Finding(
        side=side, zone=zone, kind=kind, severity=float(rng.beta(1.8, 1.8)), seed=int(rng.integers(2**31))
    )


def draw_phantoms(
    phantoms: Sequence[Phantom], size: int, title: str = "drawing phantoms"
) -> tuple[np.ndarray, np.ndarray]:
    """Draw films into memory, on all cores: images uint8 (N, size, size), masks uint16 (N, size, size) with
    the bits of `sample.findings.draw_radiograph`."""
    images, masks = zip(*_in_processes(_draw_part, phantoms, title, size), strict=True)
    return np.concatenate(images), np.concatenate(masks)


def draw_cohort(folder: Path | str, images: int = 1200, size: int = 128, seed: int = 0) -> Cohort:
    """Draw the sample cohort into `folder`, and open it.

    `images/<image>.png` are 8-bit gray, `size` x `size`; `masks/<image>.png` are 16-bit, and in them bit c
    is set where `CHEXPERT_14[c]` is to be seen; they are the cohort's annotations as well. Kept columns:
    `sex`, `age`, `sites` (`Lung Opacity:left:lower;...`, as the reader of IU-Xray has it) and `report`. The
    split is patient-grouped and stratified. The same arguments give the same files. 1,200 images of 128
    pixels take about 8 s on two cores.

    Raises InputError for fewer than 60 images, fewer than 32 pixels, a negative seed, and a folder that
    holds something else.
    """
    for name, value, least in (
        ("images", images, FEWEST_IMAGES),
        ("size", size, SMALLEST_SIZE),
        ("seed", seed, 0),
    ):
        if value < least:
            raise InputError(f"sample cohort: {name} must be at least {least}, got {value}")
    phantoms = plan_phantoms(images, seed)
    targets_NC = targets_of(phantoms)
    patients = [phantom.patient for phantom in phantoms]
    with replacing_folder(folder, check_output_folder) as staging:
        for name in ("images", "masks"):
            (staging / name).mkdir()
        parts = _in_processes(_write_part, phantoms, "drawing phantoms", size, staging)
        digests, regions = [], []
        for part in parts:
            for digest, seen in part:
                digests.append(digest)
                regions += seen
        columns = {
            "image": [phantom.image for phantom in phantoms],
            "file": [f"{phantom.image}.png" for phantom in phantoms],
            "digest": digests,
            "present": [True] * len(phantoms),
            "patient": patients,
            "study": [phantom.study for phantom in phantoms],
            "view": [phantom.pose.view for phantom in phantoms],
            "split": stratified_split(targets_NC, np.array(patients), seed=seed),
            "keep.sex": [phantom.body.sex for phantom in phantoms],
            "keep.age": [phantom.body.age for phantom in phantoms],
            "keep.sites": [_sites(phantom.findings) for phantom in phantoms],
            "keep.report": [" ".join(sentence.text for sentence in phantom.report) for phantom in phantoms],
        }
        write_manifest(
            staging,
            columns,
            targets_NC,
            CohortFacts(
                labels=CHEXPERT_14,
                source=f"drawn phantoms, not patients: {images} images of {size} x {size}, seed {seed}",
                drawn=True,
                modality="chest radiograph",
                licence=LICENCE,
                policy=LabelPolicy(no_finding="complement"),
                flow=[("films drawn", images)],
                warnings=too_rare_for_three_sides(targets_NC, np.array(patients), CHEXPERT_14),
            ),
            images_root=staging / "images",
        )
        write_annotations(staging, regions)
        keep_test_access(folder, staging)
    return Cohort.open(folder)


def _sites(findings: Mapping[str, Finding]) -> str:
    """Where each label lies, as far as it has a side or a zone."""
    return ";".join(
        f"{name}:{finding.side}:{finding.zone}"
        for label, finding in findings.items()
        for name in ([label, "Lung Opacity"] if label in OPACITIES else [label])
        if finding.side or finding.zone
    )


def _in_processes(work, phantoms: Sequence[Phantom], title: str, *arguments) -> Iterator:
    """`work(part, *arguments)` on parts of the phantoms, in their order, with progress."""
    size = 25
    parts = [phantoms[i : i + size] for i in range(0, len(phantoms), size)]
    if len(phantoms) < _POOL_FROM:
        yield from (work(part, *arguments) for part in parts)
        return
    pool = joblib.Parallel(n_jobs=-1, return_as="generator")
    results = pool(joblib.delayed(work)(part, *arguments) for part in parts)
    with tqdm(total=len(phantoms), desc=title, unit="img", mininterval=1, disable=None) as bar:
        for part, result in zip(parts, results, strict=True):
            bar.update(len(part))
            yield result


def _draw_part(phantoms: Sequence[Phantom], size: int) -> tuple[np.ndarray, np.ndarray]:
    films = [draw_radiograph(phantom.body, phantom.pose, phantom.findings, size) for phantom in phantoms]
    images, masks = zip(*films, strict=True)
    return np.stack(images), np.stack(masks)


def _write_part(phantoms: Sequence[Phantom], size: int, folder: Path) -> list[tuple[str, list[Region]]]:
    """Write image and mask of each film; returns the sha256 of each image's file and where its findings are
    to be seen."""
    written = []
    for phantom in phantoms:
        image_HW, masks_HW = draw_radiograph(phantom.body, phantom.pose, phantom.findings, size)
        data = _png(image_HW)
        (folder / "images" / f"{phantom.image}.png").write_bytes(data)
        (folder / "masks" / f"{phantom.image}.png").write_bytes(_png(masks_HW))
        regions = [
            mask_region(phantom.image, label, DRAWER, masks_HW >> c & 1 == 1, drawn_by=SOFTWARE)
            for c, label in enumerate(CHEXPERT_14)
            if (masks_HW >> c & 1).any()
        ]
        written.append((hashlib.sha256(data).hexdigest(), regions))
    return written


def _png(pixels_HW: np.ndarray) -> bytes:
    """A PNG of 8 or 16 bits, as the array's type."""
    file = io.BytesIO()
    Image.fromarray(pixels_HW).save(file, "PNG", compress_level=6)
    return file.getvalue()
