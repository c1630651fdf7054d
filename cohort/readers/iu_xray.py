"""IU-Xray (Open-i, Indiana University) from the tables of its Kaggle release.

Labels come from the reports' manual MeSH annotation through this project's own table,
`mesh_to_chexpert14.csv` ("CheXpert-14 from MeSH"), or from a CSV that a report labeler wrote. The manual
annotation knows neither hedging nor negation, so its counts differ from a report labeler's;
`compare_with_paper` puts them side by side.

Shape legend: N images, C labels.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from cohort.errors import InputError
from cohort.labels import CHEXPERT_14, NO_FINDING, LabelPolicy, apply_policy
from cohort.readers.shared_arguments import shared
from cohort.spellings import one_spelling, seen, taken_for_one

if TYPE_CHECKING:
    import numpy as np

    from cohort.manifest import Cohort

HELP = "read IU-Xray from its Kaggle tables"
EXAMPLE = (
    "radtune cohort iu-xray --reports indiana_reports.csv "
    "--projections indiana_projections.csv --images images/images_normalized --out cohorts/iu"
)

# Of Open-i's collection and its Kaggle release.
LICENCE = "CC BY-NC-ND 4.0"

# Over all 3,818 frontals, by the authors' own (unpublished) labels: arXiv 2506.14136.
PAPER_POSITIVES = {
    "Enlarged Cardiomediastinum": 70,
    "Cardiomegaly": 415,
    "Lung Opacity": 516,
    "Lung Lesion": 165,
    "Edema": 49,
    "Consolidation": 31,
    "Pneumonia": 68,
    "Atelectasis": 216,
    "Pneumothorax": 20,
    "Pleural Effusion": 129,
    "Pleural Other": 56,
    "Fracture": 127,
    "Support Devices": 163,
    NO_FINDING: 2400,
}

SOURCE = "IU-Xray"

WHERE_TO_GET = (
    "get them from Open-i (NLMCXR_png.tgz at openi.nlm.nih.gov) or from the Kaggle release "
    "'Chest X-rays (Indiana University)', and build the cohort again"
)

_SIDES = ("left", "right", "bilateral")
_ZONES = {
    "upper": {"upper lobe", "apex"},
    "middle": {"middle lobe", "lingula"},
    "lower": {"lower lobe", "base", "costophrenic angle"},
    "hilum": {"hilum"},
}
_SEVERITIES = ("borderline", "mild", "moderate", "severe")
_ACUITIES = ("acute", "chronic", "healed")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `radtune cohort iu-xray`; those of all readers come on top."""
    parser.add_argument("--reports", required=True, metavar="CSV", help="indiana_reports.csv")
    parser.add_argument("--projections", required=True, metavar="CSV", help="indiana_projections.csv")
    parser.add_argument("--images", required=True, metavar="DIR|ZIP", help="the PNGs")
    parser.add_argument(
        "--labels",
        metavar="CSV",
        help="CheXpert/CheXbert labels of the reports (default: from the manual MeSH annotation)",
    )
    parser.add_argument(
        "--split",
        choices=("stratified", "paper"),
        default="stratified",
        help="patient-grouped and multi-label stratified, or the paper's procedure (default: %(default)s)",
    )


def read(arguments: argparse.Namespace) -> Cohort:
    """`read_iu_xray` with the options of the command line."""
    return read_iu_xray(
        arguments.reports,
        arguments.projections,
        arguments.images,
        labels=arguments.labels,
        split=arguments.split,
        **shared(arguments),
    )


@dataclass(frozen=True)
class MeshRule:
    """One row of `mesh_to_chexpert14.csv`: the first row that matches a code decides."""

    heading: str
    """The code's first part, without regard to case."""
    qualifiers: frozenset[str]
    """At least one of them stands behind the heading; empty: any code with this heading."""
    values: dict[str, int]
    """Label -> 1 or -1 (uncertain)."""
    beside_lung_calcification: dict[str, int]
    """Values that take precedence where the same report has a lung calcification: the nodule is calcified."""
    tier: str
    """`direct`, `arguable`, `none` (no label), `quality` (of the image) or `mask` (not annotated)."""

    def matches(self, code: Sequence[str]) -> bool:
        return code[0].lower() == self.heading.lower() and (
            not self.qualifiers or not self.qualifiers.isdisjoint(code[1:])
        )


@cache
def mesh_rules() -> tuple[MeshRule, ...]:
    """The rows of `mesh_to_chexpert14.csv`, in their order."""

    def values(cell: str) -> dict[str, int]:
        return {label: int(value) for label, value in (part.split("=") for part in cell.split("|") if part)}

    text = resources.files("cohort.readers").joinpath("mesh_to_chexpert14.csv").read_text("utf-8")
    return tuple(
        MeshRule(
            row["heading"],
            frozenset(filter(None, row["qualifiers"].split("|"))),
            values(row["labels"]),
            values(row["beside_lung_calcification"]),
            row["tier"],
        )
        for row in csv.DictReader(text.splitlines())
    )


@dataclass(frozen=True)
class MeshFindings:
    """What one report's MeSH annotation says."""

    annotated: bool
    """False for `No Indexing` and for an empty cell: nothing is known, every label is masked."""

    values: dict[str, int]
    """Label -> 1 or -1; labels not named are negative. "No Finding" only where the code is `normal`."""

    quality: str | None
    """`limited` where the annotator found the technical quality unsatisfactory, else `adequate`."""

    only_quality: bool
    """The quality is all the annotation speaks of, so that it does not rule any finding out."""

    sites: str | None
    """Where each positive finding lies, code by code: `Lung Opacity:left:lower;Fracture:right:`."""

    side: str | None
    """Over all positive findings: left, right or bilateral; None where no code says."""

    zone: str | None
    """Over all positive findings: upper, middle, lower, hilum, several joined by +; None where unsaid."""

    severity: str | None
    """The gravest over all positive and uncertain findings: borderline, mild, moderate or severe."""

    acuity: str | None
    """Over all positive and uncertain findings: acute, chronic, healed, several joined by +."""

    unknown: tuple[str, ...]
    """Headings that the table does not have."""


@cache
def read_mesh(annotation: str | None) -> MeshFindings:
    """Read one cell of the MeSH column, such as `Opacity/lung/base/left;Cardiomegaly/mild`."""
    codes = [[" ".join(part.split()) for part in code.split("/")] for code in (annotation or "").split(";")]
    codes = [code for code in codes if code[0]]
    lung_calcified = any(
        code[0] == "Calcified Granuloma" or (code[0] == "Calcinosis" and "lung" in code) for code in codes
    )
    values: dict[str, int] = {}
    sites: list[str] = []
    positive: list[list[str]] = []
    found: list[list[str]] = []
    tiers, unknown = set(), []
    for code in codes:
        rule = next((rule for rule in mesh_rules() if rule.matches(code)), None)
        if rule is None:
            unknown.append(code[0])
            continue
        tiers.add(rule.tier)
        said = rule.values | (rule.beside_lung_calcification if lung_calcified else {})
        for label, value in said.items():
            values[label] = max(value, values.get(label, value))
            found.append(code)
            if value == 1:
                positive.append(code)
                sites.append(f"{label}:{_side([code]) or ''}:{_zone([code]) or ''}")
    annotated = bool(codes) and "mask" not in tiers
    qualifiers = {qualifier for code in found for qualifier in code[1:]}
    return MeshFindings(
        annotated=annotated,
        values=values,
        quality=("limited" if "quality" in tiers else "adequate") if annotated else None,
        only_quality=tiers == {"quality"} and not unknown,
        sites=";".join(site for site in sites if not site.endswith("::")) or None,
        side=_side(positive),
        zone=_zone(positive),
        severity=next((word for word in reversed(_SEVERITIES) if word in qualifiers), None),
        acuity="+".join(word for word in _ACUITIES if word in qualifiers) or None,
        unknown=tuple(unknown),
    )


def _side(codes: Iterable[Sequence[str]]) -> str | None:
    sides = {qualifier for code in codes for qualifier in code[1:] if qualifier in _SIDES}
    return None if not sides else sides.pop() if len(sides) == 1 else "bilateral"


def _zone(codes: Iterable[Sequence[str]]) -> str | None:
    qualifiers = {qualifier for code in codes for qualifier in code[1:]}
    return "+".join(zone for zone, words in _ZONES.items() if qualifiers & words) or None


def read_iu_xray(
    reports: Path | str,
    projections: Path | str,
    images: Path | str,
    out: Path | str,
    *,
    labels: Path | str | None = None,
    split: str = "stratified",
    uncertain: str | Mapping[str, str] = "ignore",
    blank: str | None = None,
    no_finding: str = "complement",
    fractions: Sequence[float] | None = None,
    seed: int = 0,
    licence: str = LICENCE,
    label_names: Mapping[str, str] | None = None,
    label_prompts: Mapping[str, Sequence[str]] | None = None,
    intensity: str = "full",
    skip_unreadable: bool = False,
    allow_duplicates: bool = False,
) -> Cohort:
    """Read the frontal images of IU-Xray, write the cohort to the folder `out`, and open it.

    `reports` and `projections` are `indiana_reports.csv` and `indiana_projections.csv`; `images` is a folder
    or a zip archive with the Kaggle release's files (`10_IM-0002-2001.dcm.png`) or Open-i's
    (`CXR10_IM-0002-2001.png`). The labels are `CHEXPERT_14`, from MeSH or from the CSV `labels` of a report
    labeler (columns `uid` or `filename`, and the labels with 1, 0, -1, blank); images without a row in it are
    masked. Patient and study are both the report's uid, for nothing else identifies a patient.

    `split` is `stratified` (by uid, with `fractions` and `seed`) or `paper` (`cohort.splits.paper_split`).
    `uncertain`, `blank` and `no_finding` are those of `cohort.labels.LabelPolicy`, `intensity` is one of
    `cohort.intensity.RULES`; `blank` defaults to negative for a labeler's CSV, and says nothing about MeSH,
    where only reports that nobody annotated are blank: they are masked.

    Kept columns: report (findings and impression), mesh, side, zone, sites, severity, acuity, quality: see
    `MeshFindings`. `label_names` and `label_prompts` are those of `Cohort`. Raises InputError like
    `cohort.readers.table.read_table`; a label without positives and a missing file are warnings here.
    """
    import numpy as np

    from cohort.manifest import check_output_folder
    from cohort.readers.assemble import SourceRows, assemble
    from cohort.readers.source_table import read_source, require_cells, require_columns, require_distinct
    from cohort.splits import FRACTIONS, paper_split, too_rare_for_three_sides

    check_output_folder(out, images)
    if split not in ("stratified", "paper"):
        raise InputError(f"split must be stratified or paper, got {split!r}")
    if fractions is not None and split == "paper":
        raise InputError(
            "fractions are those of a stratified split, and the paper's has its own; leave them out"
        )
    report_frame, frame = read_source(reports), read_source(projections)
    require_columns(report_frame, ["uid", "MeSH", "findings", "impression"], reports)
    require_columns(frame, ["uid", "filename", "projection"], projections)
    for column in ("uid", "filename"):
        require_cells(frame, column)
    spellings: dict[str, str] = {}
    report_uids, replaced = one_spelling(report_frame["uid"], spellings)
    uids, again = one_spelling(frame["uid"], spellings)
    report_frame, frame = report_frame.assign(uid=report_uids), frame.assign(uid=uids)
    warnings = taken_for_one("uids", replaced + again)
    require_distinct(report_frame["uid"], "uid")
    require_distinct(frame["filename"], "filename")
    flow = [("rows of projections", len(frame))]
    frame = frame[[(cell or "").lower() == "frontal" for cell in frame["projection"]]]
    flow.append(("frontal", len(frame)))
    uid, filename = frame["uid"].tolist(), frame["filename"].tolist()
    texts = report_frame.set_index("uid")
    absent = [u for u in uid if u not in texts.index]
    if absent:
        raise InputError(
            f"{reports}: no report for uid {absent[0]!r} ({len(absent)} in all) of {projections}"
        )
    texts = texts.loc[uid]
    mesh = [read_mesh(cell) for cell in texts["MeSH"]]

    if labels is None:
        source = f"{SOURCE}, CheXpert-14 from MeSH"
        policy = LabelPolicy(uncertain, blank or "missing", no_finding)
        raw_NC = np.zeros((len(frame), len(CHEXPERT_14)))
        for n, findings in enumerate(mesh):
            for label, value in findings.values.items():
                raw_NC[n, CHEXPERT_14.index(label)] = value
        labelled_N = np.array([findings.annotated for findings in mesh])
        unknown = Counter(heading for findings in mesh for heading in findings.unknown)
        if unknown:
            warnings.append(f"MeSH headings without a rule, taken for no label: {', '.join(sorted(unknown))}")
    else:
        source = f"{SOURCE}, labels of {Path(labels).name}"
        policy = LabelPolicy(uncertain, blank or "negative", no_finding)
        raw_NC, labelled_N = _labeler_cells(labels, uid, filename, no_finding)
    raw_NC[~labelled_N] = np.nan
    targets_NC, contradictions = apply_policy(raw_NC, CHEXPERT_14, policy)
    targets_NC[~labelled_N] = np.nan
    if not labelled_N.all():
        warnings.append(f"{(~labelled_N).sum()} images have no annotation: all labels masked")
    if labels is None:
        vague_N = np.array([findings.only_quality for findings in mesh])
        targets_NC[vague_N, CHEXPERT_14.index(NO_FINDING)] = np.nan
        if vague_N.any():
            warnings.append(f"{vague_N.sum()} images have a remark on quality only: {NO_FINDING} masked")

    warnings += too_rare_for_three_sides(targets_NC, uid, CHEXPERT_14)
    report = [
        " ".join(filter(None, parts)) or None
        for parts in zip(texts["findings"], texts["impression"], strict=True)
    ]
    rows = SourceRows(
        image=filename,
        names=[_file_names(u, name) for u, name in zip(uid, filename, strict=True)],
        patient=uid,
        study=uid,
        view=["frontal"] * len(frame),
        split=paper_split(uid) if split == "paper" else None,
        fractions=fractions or FRACTIONS,
        seed=seed,
        keep={"report": report, "mesh": texts["MeSH"].tolist()}
        | {
            name: [getattr(findings, name) for findings in mesh]
            for name in ("side", "zone", "sites", "severity", "acuity", "quality")
        },
        raw_NC=raw_NC,
        targets_NC=targets_NC,
        contradictions=contradictions,
        labels=CHEXPERT_14,
        policy=policy,
        source=source,
        reader="iu_xray",
        modality="chest radiograph",
        licence=licence,
        label_names=label_names or {},
        label_prompts=label_prompts or {},
        flow=flow,
        warnings=warnings,
        where_to_get=WHERE_TO_GET,
    )
    return assemble(
        rows,
        images,
        out,
        intensity=intensity,
        skip_unreadable=skip_unreadable,
        allow_duplicates=allow_duplicates,
    )


def _file_names(uid: str, filename: str) -> list[str]:
    """The Kaggle release's name of a file, and Open-i's, which repeats the uid in two of its 7,470 names."""
    stem = filename.removesuffix(".png").removesuffix(".dcm")
    return [filename, f"CXR{stem}.png", f"CXR{uid}_{stem}.png"]


def _labeler_cells(
    path: Path | str, uid: Sequence[str], filename: Sequence[str], no_finding: str
) -> tuple[np.ndarray, np.ndarray]:
    """raw_NC from a labeler's CSV, and which of the images have a row in it."""
    import numpy as np

    from cohort.readers.source_table import (
        label_cells,
        read_source,
        require_cells,
        require_distinct,
        require_label_columns,
    )

    frame = read_source(path)
    key = next((column for column in ("filename", "uid") if column in frame.columns), None)
    if key is None:
        raise InputError(f"{path}: no column 'uid' or 'filename' to tell which report a row labels")
    require_cells(frame, key)
    frame = frame.assign(**{key: [seen(name) for name in frame[key]]})
    require_distinct(frame[key], key)
    frame = require_label_columns(frame, CHEXPERT_14, no_finding, path)
    cells_NC = label_cells(frame, CHEXPERT_14)
    position = {name: n for n, name in enumerate(frame[key])}
    names = filename if key == "filename" else uid
    rows_N = np.array([position.get(seen(name), -1) for name in names])
    if (rows_N == -1).all():
        raise InputError(f"{path}: none of its {len(frame)} rows has the {key} of a frontal image")
    return cells_NC[rows_N], rows_N != -1


def compare_with_paper(cohort: Cohort) -> str:
    """Positives of each label over all rows of an IU-Xray cohort, beside the paper's counts, as plain text.

    arXiv 2506.14136 counts 3,818 frontals, by labels that are not published. The last line counts "No
    Finding" by other rules. InputError for a cohort of another source.
    """
    from cohort.manifest import LABEL

    if cohort.reader != "iu_xray":
        raise InputError(
            f"{cohort.folder}: the paper's counts are of {SOURCE}, this cohort is {cohort.source}"
        )
    cells = {label: cohort.table[LABEL + label].to_pylist() for label in cohort.labels}
    width = max(map(len, cells))
    lines = [f"{'':{width}}  {'paper':>6} {'here':>6} {'uncertain':>10} {'masked':>7}"]
    for label, column in cells.items():
        counts = PAPER_POSITIVES[label], column.count(1), cohort.uncertain[label], column.count(None)
        lines.append(f"{label:{width}}  {counts[0]:6} {counts[1]:6} {counts[2]:10} {counts[3]:7}")
    findings = [column for label, column in cells.items() if label != NO_FINDING]
    without = [row for row in zip(*findings, strict=True) if 1 not in row]
    unlabelled = sum(set(row) == {None} for row in without)
    normal = cohort.table["keep.mesh"].to_pylist().count("normal")
    lines.append(
        f"{NO_FINDING}: {len(without)} images without a positive finding, {len(without) - unlabelled} of "
        f"them labelled, {cells[NO_FINDING].count(1)} by the policy; {normal} with the MeSH code `normal`"
    )
    return "\n".join(lines)
