"""Labels for a second look: those that the answer's held-out scores contradict most; none is changed."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import STYLE, WIDTH, new_figure, short
from analysis.judging.judgement import Judgement
from analysis.number_format import counted
from analysis.section import Folded, Part, Picture, Row, Section, Table, Words
from cohort.errors import InputError
from cohort.geometry import Geometry, apply_geometry
from scoring.label_audit import Contradictions, contradictions

TITLE = "Labels for a second look"

SHOWN = 8
"""Images on a label's sheet, at most."""
SHEET_SIDE = 4
"""Images in a line of it."""
PIXELS = 96
COLUMNS = ("image", "patient", "label", "given", "probability", "quality", "rank")


def run(judgement: Judgement) -> Section:
    row = judgement.answer
    if row.ranks_only:
        return Section(
            parts=[Words(text="The final model only ranks; it has no probabilities to hold labels against.")]
        )
    rows_N = judgement.predictions.images.judged_N
    probs_NC = row.rule.probabilities(row.val_scores_NC)
    found = contradictions(judgement.judged.targets_NC, probs_NC, multiclass=judgement.cohort.multiclass)
    table = audit_table(judgement, rows_N, probs_NC, found)
    whose = "training and validation images" if judgement.cross_validated else "validation images"
    total, expected = int(found.contradicted_NC.sum()), float(found.expected_C.sum())
    weighed = (
        "so that nothing speaks for wrong labels, and only the order says where to look first"
        if total <= expected
        else "so that some of them may be wrong"
    )
    parts: list[Part] = [
        Words(
            text=f"Scores of {counted(len(rows_N), 'image')} ({whose}, each scored by heads that did not "
            f"train on it) contradict {counted(total, 'label')}: the other way is likelier, and is scored as "
            f"surely as on images that bear the other label. About {expected:.0f} would be so if every label "
            f"and every probability were right, {weighed}. They are candidates for a reader's second look, "
            "the worst first, with the model's own errors among them. Nothing was relabelled, and test "
            "images take no part."
        ),
        _counts(judgement, found),
        *_sheets(judgement, table),
    ]
    return Section(parts=parts, tables={"label_audit": table})


def audit_table(
    judgement: Judgement, rows_N: np.ndarray, probs_NC: np.ndarray, found: Contradictions
) -> pd.DataFrame:
    """`label_audit.csv`: image, patient, label, given (0 or 1), probability of present, quality (probability
    of the given label), rank within the label, the worst first."""
    images, patients = judgement.cohort.column("image"), judgement.cohort.column("patient")
    lines = []
    for c, label in enumerate(judgement.cohort.labels):
        contradicted = np.flatnonzero(found.contradicted_NC[:, c])
        worst = contradicted[np.argsort(found.quality_NC[contradicted, c], kind="stable")]
        for rank, n in enumerate(worst, start=1):
            given = int(judgement.judged.targets_NC[n, c])
            numbers = probs_NC[n, c], found.quality_NC[n, c], rank
            lines.append((images[rows_N[n]], patients[rows_N[n]], label, given, *numbers))
    return pd.DataFrame(lines, columns=COLUMNS)


def _counts(judgement: Judgement, found: Contradictions) -> Table:
    targets_NC = judgement.judged.targets_NC
    rows = []
    for c, label in enumerate(judgement.cohort.labels):
        of_positives = int((found.contradicted_NC[:, c] & (targets_NC[:, c] == 1)).sum())
        of_negatives = int((found.contradicted_NC[:, c] & (targets_NC[:, c] == 0)).sum())
        rows.append(
            Row(
                cells=[
                    judgement.cohort.label_name(label),
                    f"{of_positives} of {int((targets_NC[:, c] == 1).sum())}",
                    f"{of_negatives} of {int((targets_NC[:, c] == 0).sum())}",
                    f"{found.expected_C[c]:.0f}",
                ],
                kind="" if of_positives + of_negatives else "quiet",
            )
        )
    columns = [
        "label",
        "given present,\nscored absent",
        "given absent,\nscored present",
        "expected of\nright labels",
    ]
    return Table(columns=columns, rows=rows)


def _sheets(judgement: Judgement, table: pd.DataFrame) -> Iterator[Part]:
    """A sheet a label, folded; in place of one whose files are not there, why."""
    place = {image: row for row, image in enumerate(judgement.cohort.column("image"))}
    if not judgement.study.images:
        yield Words(text="The images are left out, as `analysis.images: none` wants it.", kind="note")
        return
    try:
        files = judgement.cohort.files()
    except InputError as error:
        yield Words(text=f"The images cannot be shown: {error}", kind="note")
        return
    square = Geometry(PIXELS, "longest", channels=3)
    for label in judgement.cohort.labels:
        shown, pictures, unread = table[table["label"] == label].head(SHOWN), [], 0
        for line in shown.itertuples():
            try:
                pictures.append((line, apply_geometry(files.decode(place[line.image]), square)))
            except InputError:
                unread += 1
        name = judgement.cohort.label_name(label)
        if pictures:
            note = f" {counted(unread, 'image')} could not be read." if unread else ""
            picture = Picture(
                name=f"label_audit_{label}",
                figure=sheet(pictures),
                alt=f"The images whose label {name} the scores contradict most; their names stand in "
                f"label_audit.csv.",
                caption=f"Given label and held-out probability of {name} beneath each.{note}",
            )
            yield Folded(title=f"{name}: the {len(pictures)} most contradicted", parts=[picture])
        elif unread:
            yield Words(text=f"{name}: none of {counted(unread, 'image')} could be read.", kind="note")


def sheet(pictures) -> Figure:
    """(line of the table, uint8 image (H, W, 3)) side by side, the worst first."""
    lines = -(-len(pictures) // SHEET_SIDE)
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, lines * (WIDTH / SHEET_SIDE + 0.45))
        axes = np.ravel(figure.subplots(lines, SHEET_SIDE, squeeze=False))
        for one in axes:
            one.set_axis_off()
        for one, (line, image_HWC) in zip(axes, pictures, strict=False):
            one.imshow(image_HWC, interpolation="nearest")
            given = "present" if line.given else "absent"
            one.set_title(
                f"{short(str(line.image))}\n{given}, p {line.probability:.2f}",
                fontsize=6.5,
                fontweight="normal",
            )
    return figure
