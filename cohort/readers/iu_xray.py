"""IU-Xray (Open-i, Indiana University) from the tables of its Kaggle release, or from Open-i's XML.

Labels come from the reports' manual MeSH annotation through this project's own table,
`mesh_to_chexpert14.csv` ("CheXpert-14 from MeSH"), or from a CSV that a report labeler wrote. The manual
annotation knows neither hedging nor negation, so its counts differ from a report labeler's;
`compare_with_paper` puts them side by side.

Shape legend: N images, C labels.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cohort.errors import InputError
from cohort.labels import CHEXPERT_14, NO_FINDING, LabelPolicy, apply_policy
from cohort.readers.mesh import MeshFindings, read_mesh
from cohort.readers.options import SharedOptions, add_options, option, options_of
from cohort.spellings import one_spelling, seen, taken_for_one

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from cohort.manifest import Cohort

HELP = "read IU-Xray from its Kaggle tables or from Open-i's archive"
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


@dataclass(frozen=True, kw_only=True)
class IuXrayOptions(SharedOptions):
    """How IU-Xray is labelled and split. InputError for options that contradict each other.

    `blank` defaults to negative for a labeler's CSV, and says nothing about MeSH, where only reports that
    nobody annotated are blank: they are masked. `no_finding` defaults to complement.
    """

    labels: Path | str | None = option(
        None,
        metavar="CSV",
        help="CheXpert/CheXbert labels of the reports (default: from the manual MeSH annotation)",
    )
    """Columns `uid` or `filename`, and the labels with 1, 0, -1, blank; images without a row in it are
    masked."""
    split: str = option(
        "stratified",
        choices=("stratified", "paper"),
        help="patient-grouped and multi-label stratified, or the paper's procedure (default: %(default)s)",
    )
    """`stratified` (by uid) or `paper` (`cohort.splits.paper_split`)."""

    def __post_init__(self) -> None:
        if self.split not in ("stratified", "paper"):
            raise InputError(f"split must be stratified or paper, got {self.split!r}")
        if self.fractions is not None and self.split == "paper":
            raise InputError(
                "fractions are those of a stratified split, and the paper's has its own; leave them out"
            )


def arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `radtune cohort iu-xray`."""
    parser.add_argument(
        "--reports", required=True, metavar="FILE", help="indiana_reports.csv, or Open-i's NLMCXR_reports.tgz"
    )
    parser.add_argument(
        "--projections",
        metavar="CSV",
        help="indiana_projections.csv; of Open-i's archive all views are read without it",
    )
    parser.add_argument("--images", required=True, metavar="DIR|ZIP", help="the PNGs")
    add_options(parser, IuXrayOptions)


def read(arguments: argparse.Namespace) -> Cohort:
    """`read_iu_xray` with the arguments of the command line."""
    options = options_of(arguments, IuXrayOptions)
    return read_iu_xray(arguments.reports, arguments.projections, arguments.images, arguments.out, options)


def read_iu_xray(
    reports: Path | str,
    projections: Path | str | None,
    images: Path | str,
    out: Path | str,
    options: IuXrayOptions = IuXrayOptions(),
) -> Cohort:
    """Read the frontal images of IU-Xray, write the cohort to the folder `out`, and open it.

    `reports` and `projections` are `indiana_reports.csv` and `indiana_projections.csv`; `images` is a folder
    or a zip archive with the Kaggle release's files (`10_IM-0002-2001.dcm.png`) or Open-i's
    (`CXR10_IM-0002-2001.png`). `reports` may be Open-i's archive of XML instead, of which all images are
    read, frontal and lateral, where no projections are given. The labels are `CHEXPERT_14`, from MeSH or from
    a labeler's CSV. Patient and study are both the report's uid, for nothing else identifies a patient.

    Kept columns: report (findings and impression), mesh, side, zone, sites, severity, acuity, quality: see
    `MeshFindings`. Raises InputError like `cohort.readers.table.read_table`; a label without positives and a
    missing file are warnings here.
    """
    from cohort.readers.assemble import SourceRows, assemble
    from cohort.splits import paper_split, too_rare_for_three_sides
    from cohort.writing import check_output_folder

    check_output_folder(out, images)
    frame, texts, flow, warnings = _frontals(reports, projections)
    uid, filename = frame["uid"].tolist(), frame["filename"].tolist()
    mesh = [read_mesh(cell) for cell in texts["MeSH"]]
    given = options.labels
    policy = LabelPolicy(
        options.uncertain,
        options.blank or ("missing" if given is None else "negative"),
        options.no_finding or "complement",
    )
    if given is None:
        raw_NC, targets_NC, contradictions, doubts = _targets_of_mesh(mesh, policy)
    else:
        raw_NC, labelled_N = _labeler_cells(given, uid, filename, policy.no_finding)
        targets_NC, contradictions, doubts = _targets(raw_NC, labelled_N, policy)
    warnings += doubts
    warnings += too_rare_for_three_sides(targets_NC, uid, CHEXPERT_14)
    report = [
        " ".join(filter(None, parts)) or None
        for parts in zip(texts["findings"], texts["impression"], strict=True)
    ]
    return assemble(
        SourceRows(
            image=filename,
            names=[_file_names(u, name) for u, name in zip(uid, filename, strict=True)],
            patient=uid,
            study=uid,
            view=["" if projections is None else "frontal"] * len(frame),
            split=paper_split(uid) if options.split == "paper" else None,
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
            source=f"{SOURCE}, " + (f"labels of {Path(given).name}" if given else "CheXpert-14 from MeSH"),
            reader="iu_xray",
            modality="chest radiograph",
            licence=LICENCE,
            flow=flow,
            warnings=warnings,
            where_to_get=WHERE_TO_GET,
        ),
        images,
        out,
        options,
    )


def _frontals(
    reports: Path | str, projections: Path | str | None
) -> tuple[pd.DataFrame, pd.DataFrame, list[tuple[str, int]], list[str]]:
    """The rows of frontal images, of each the row of its report, the flow to them, and warnings."""
    from cohort.readers.openi_xml import ENDINGS as OPENI_ENDINGS
    from cohort.readers.openi_xml import read_openi
    from cohort.readers.source_table import read_source, require_cells, require_columns, require_distinct

    if str(reports).lower().endswith(OPENI_ENDINGS):
        report_frame, frame = read_openi(reports)
    elif projections is None:
        raise InputError(
            "--projections: indiana_reports.csv does not say which images are frontal; give both"
        )
    else:
        report_frame = read_source(reports)
    if projections is not None:
        frame = read_source(projections)
    require_columns(report_frame, ["uid", "MeSH", "findings", "impression"], reports)
    require_columns(frame, ["uid", "filename", "projection"], projections or reports)
    for column in ("uid", "filename"):
        require_cells(frame, column)
    spellings: dict[str, str] = {}
    report_uids, replaced = one_spelling(report_frame["uid"], spellings)
    uids, again = one_spelling(frame["uid"], spellings)
    report_frame, frame = report_frame.assign(uid=report_uids), frame.assign(uid=uids)
    warnings = taken_for_one("uids", replaced + again)
    require_distinct(report_frame["uid"], "uid")
    require_distinct(frame["filename"], "filename")
    if projections is None:
        flow = [("images of reports", len(frame))]
        warnings.append("no projections are given: frontal and lateral images are not told apart")
    else:
        flow = [("rows of projections", len(frame))]
        frame = frame[[(cell or "").lower() == "frontal" for cell in frame["projection"]]]
        flow.append(("frontal", len(frame)))
    texts = report_frame.set_index("uid")
    absent = [uid for uid in frame["uid"] if uid not in texts.index]
    if absent:
        raise InputError(
            f"{reports}: no report for uid {absent[0]!r} ({len(absent)} in all) of {projections or reports}"
        )
    return frame, texts.loc[frame["uid"].tolist()], flow, warnings


def _targets_of_mesh(
    mesh: Sequence[MeshFindings], policy: LabelPolicy
) -> tuple[np.ndarray, np.ndarray, Sequence[int], list[str]]:
    """raw_NC, targets_NC, contradictions and warnings of what the annotations say."""
    import numpy as np

    raw_NC = np.zeros((len(mesh), len(CHEXPERT_14)))
    for n, findings in enumerate(mesh):
        for label, value in findings.values.items():
            raw_NC[n, CHEXPERT_14.index(label)] = value
    annotated_N = np.array([findings.annotated for findings in mesh])
    targets_NC, contradictions, doubts = _targets(raw_NC, annotated_N, policy)
    warnings = []
    if unknown := Counter(heading for findings in mesh for heading in findings.unknown):
        warnings.append(f"MeSH headings without a rule, taken for no label: {', '.join(sorted(unknown))}")
    warnings += doubts
    vague_N = np.array([findings.only_quality for findings in mesh])
    targets_NC[vague_N, CHEXPERT_14.index(NO_FINDING)] = np.nan
    if vague_N.any():
        warnings.append(f"{vague_N.sum()} images have a remark on quality only: {NO_FINDING} masked")
    return raw_NC, targets_NC, contradictions, warnings


def _targets(
    raw_NC: np.ndarray, labelled_N: np.ndarray, policy: LabelPolicy
) -> tuple[np.ndarray, Sequence[int], list[str]]:
    """targets_NC, contradictions and warnings; rows that nobody labelled are masked, in raw_NC too."""
    import numpy as np

    raw_NC[~labelled_N] = np.nan
    targets_NC, contradictions = apply_policy(raw_NC, CHEXPERT_14, policy)
    targets_NC[~labelled_N] = np.nan
    if labelled_N.all():
        return targets_NC, contradictions, []
    return targets_NC, contradictions, [f"{(~labelled_N).sum()} images have no annotation: all labels masked"]


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
