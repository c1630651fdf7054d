"""How far text burned into images, as scanners do it, moves features and answers."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from analysis.figures import INK, QUIET, STYLE, WIDTH, legend_beneath, new_figure, short
from analysis.inside.feature_spaces import FROZEN, FROZEN_DEEP, TUNED
from analysis.inside.models import Models
from analysis.inside.overlay_effects import (
    BOX,
    DIFFERENCE,
    TEXT,
    OverlaySample,
    decision_effects,
    feature_effects,
    labels_to_name,
    with_controls,
)
from analysis.inside.overlays import FULL, SMALL, Overlay, overlays
from analysis.number_format import NONE, counted, score, signed
from analysis.row_styles import BEST
from analysis.section import Cell, Folded, Part, Picture, Row, Section, Table, Words
from cohort.errors import InputError
from trainables.baselines import ZERO_SHOT
from vlm.altered_images import seen_image
from vlm.encoders import Encoder
from vlm.predictor import Predictor

TITLE = "Text burned into the image"

LEAST_SHIFT = 1e-3
"""What the figure shows of less."""
TILES = 3
"""Images in a line of the sheet."""


def run(models: Models) -> Section:
    try:
        models.judgement.cohort.files().read(int(models.judgement.split.rows_N[0]))
    except InputError as error:
        return Section(parts=[Words(text=f"The images are not there to be overlaid: {error}.", kind="note")])
    texts = overlays(labels_to_name(models.judgement.cohort, models.judgement.split))
    sample = OverlaySample.draw(models.judgement.split.patients_N, models.judgement.study.seed)
    table = pd.concat(list(_effects(models, sample, texts)), ignore_index=True)
    rows_N = models.judgement.split.rows_N[sample.places_N]
    parts: list[Part] = [
        Words(text=_sentence(models, table, len(rows_N), len(texts))),
        Picture(
            name="overlay",
            figure=shifts(models, table, texts),
            alt="How far each text moves the features, beside a grey box of its size.",
            caption="Distance between an image and itself overlaid, in units of the distance to the nearest "
            "other patient's image: at 1 a text counts as much as another patient. 95 % intervals over "
            "patients.",
        ),
        _by_overlay(models, table, texts),
    ]
    parts += _by_name(models, table, texts)
    if models.judgement.study.images:
        parts.append(
            Picture(
                name="overlay_images",
                figure=sheet(models, models.encoder, int(rows_N[0]), texts),
                alt="One test image with each text, as the encoder saw it.",
                caption=f"One test image with each text, and the first text's control, at the "
                f"{_pixels(models)} that the encoder saw.",
            )
        )
    return Section(parts=parts, tables={"overlay": table})


def _answers(models: Models) -> list[Predictor]:
    return [models.predictor(id) for id in (ZERO_SHOT, models.judgement.best) if models.has(id)]


def _effects(models: Models, sample: OverlaySample, texts: list[Overlay]) -> Iterator[pd.DataFrame]:
    """Of each space but raw pixels and of each answer; an encoder embeds once, whoever reads it."""
    split = models.judgement.split
    rows_N = split.rows_N[sample.places_N]
    spaces = [space for space in models.spaces if space.name in (FROZEN, FROZEN_DEEP, TUNED)]
    answers = _answers(models)
    for fingerprint in dict.fromkeys(
        [*(space.encoder.fingerprint for space in spaces), *(row.encoder.fingerprint for row in answers)]
    ):
        mine = [space for space in spaces if space.encoder.fingerprint == fingerprint]
        rows = [row for row in answers if row.encoder.fingerprint == fingerprint]
        encoder = mine[0].encoder if mine else rows[0].encoder
        precision = mine[0].precision if mine else rows[0].precision
        clean_ND = models.features(encoder, precision)
        altered = models.features.altered(encoder, precision, rows_N, with_controls(texts))
        altered_NV2D = altered.reshape(len(rows_N), len(texts), 2, -1)
        for space in mine:
            columns = space.kind.columns
            yield feature_effects(
                sample,
                texts,
                space.name,
                clean_ND[rows_N][:, columns],
                altered_NV2D[..., columns],
                (clean_ND[split.rows_N][:, columns], split.patients_N),
            )
        for row in rows:
            yield decision_effects(sample, texts, row, clean_ND[rows_N], altered_NV2D)


def _sentence(models: Models, table: pd.DataFrame, images: int, texts: int) -> str:
    """To be quoted."""
    averages = table[(table["text"] == "") & (table["label"] == "")]
    averages = averages.set_index(["setting", "metric", "overlay"])["value"]
    frozen = table[(table["setting"] == FROZEN) & (table["metric"] == "shift") & (table["text"] != "")]
    moved = {which: frozen[frozen["overlay"] == which] for which in (TEXT, BOX)}
    most = moved[TEXT].loc[moved[TEXT]["value"].idxmax()]
    its_box = moved[BOX].iloc[int(np.argmax(moved[TEXT]["value"]))]
    findings = models.frozen_separability
    findings = findings[(findings["metric"] == "logistic_accuracy") & (findings["label"] == "")]["value"]
    findings_said = f", and the findings with {score(findings.iloc[0], 2)}" if len(findings) else ""
    flips = [
        f"{averages[row.name, 'flips', TEXT]:.0%} of images under {row.name} "
        f"(box {averages[row.name, 'flips', BOX]:.0%})"
        for row in _answers(models)
    ]
    return (
        f"Of {counted(texts, 'text')} burned into {counted(images, 'test image')} the median one moves the "
        f"frozen features by {score(moved[TEXT]['value'].median(), 2)} of the distance to the nearest other "
        f"patient's image (a grey box of its size and brightness: {score(moved[BOX]['value'].median(), 2)}), "
        f"the strongest, {most['text']} {most['place']}, by {score(most['value'], 2)} (box "
        f"{score(its_box['value'], 2)}). On held-out patients a regression finds those with an overlay "
        f"with balanced accuracy {score(averages[FROZEN, 'discriminated', TEXT], 2)} (box "
        f"{score(averages[FROZEN, 'discriminated', BOX], 2)}){findings_said}. On average over the texts a "
        f"decision becomes another in {' and '.join(flips)}."
    )


def _by_overlay(models: Models, table: pd.DataFrame, texts: list[Overlay]) -> Table:
    values = table[table["label"] == ""].set_index(
        ["setting", "metric", "overlay", "text", "place", "size", "contrast"]
    )["value"]
    answers = [row.name for row in _answers(models)]

    def pair(setting: str, metric: str, overlay: Overlay, percent: bool) -> Cell:
        text, box = (
            values[setting, metric, which, overlay.text, overlay.place, overlay.size, overlay.contrast]
            for which in (TEXT, BOX)
        )
        if percent:
            return Cell(text=f"{text:.0%}", small=f"box {box:.0%}")
        return Cell(text=score(text, 2), small=f"box {score(box, 2)}")

    rows = []
    for overlay in texts:
        cells = [pair(FROZEN, "shift", overlay, False), pair(FROZEN, "discriminated", overlay, False)]
        cells += [pair(name, "flips", overlay, True) for name in answers]
        rows.append(Row(cells=[Cell(text=short(overlay.text), small=_where(overlay)), *cells]))
    columns = ["text", "shift of\nfrozen features", "discriminated\nfrom clean"]
    return Table(columns=[*columns, *(f"images with a flip,\n{name}" for name in answers)], rows=rows)


def _by_name(models: Models, table: pd.DataFrame, texts: list[Overlay]) -> Iterator[Part]:
    """The typographic attack: what a label's own name does to that label."""
    named = [overlay for overlay in texts if overlay.label]
    if not named:
        return
    answers = [row.name for row in _answers(models)]
    indexed = table[table["label"] != ""].set_index(["setting", "metric", "label", "overlay"])
    rows = []
    for overlay in named:
        cells: list[Cell | str] = [short(overlay.text)]
        for name in answers:
            change = indexed.loc[(name, "named_change", overlay.label, DIFFERENCE)]
            ends = NONE
            if np.isfinite(change["low"]):
                ends = f"{signed(change['low'])} to {signed(change['high'])}"
            to, away = (
                indexed.loc[(name, metric, overlay.label, TEXT)]["value"]
                for metric in ("named_to", "named_away")
            )
            boxed_to, boxed_away = (
                indexed.loc[(name, metric, overlay.label, BOX)]["value"]
                for metric in ("named_to", "named_away")
            )
            cells += [
                Cell(text=signed(change["value"]), small=ends),
                Cell(text=f"{to:.0%} / {away:.0%}", small=f"box {boxed_to:.0%} / {boxed_away:.0%}"),
            ]
        rows.append(Row(cells=cells))
    columns = ["name burned in"]
    for name in answers:
        columns += [f"{name}: score of\nthat label", f"{name}: images that\nget / lose it"]
    yield Folded(
        title="A label's own name",
        parts=[
            Words(
                text="A typographic attack: does writing a finding's name on the image bring the finding "
                "about? The score's change under the name less that under the box; up is towards the name."
            ),
            Table(columns=columns, rows=rows),
        ],
    )


def _where(overlay: Overlay) -> str:
    size = "" if overlay.size == SMALL else ", large"
    return overlay.place + size + ("" if overlay.contrast == FULL else ", faint")


def shifts(models: Models, table: pd.DataFrame, texts: list[Overlay]) -> Figure:
    """Shift of the frozen features by text and by box."""
    own = table[(table["setting"] == FROZEN) & (table["metric"] == "shift") & (table["text"] != "")]
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 1.1 + 0.3 * len(texts))
        axes = figure.subplots()
        y = np.arange(len(texts))
        for which, colour, offset in ((TEXT, BEST, -0.13), (BOX, QUIET, 0.13)):
            one = own[own["overlay"] == which]
            low, value, high = (np.maximum(one[end], LEAST_SHIFT) for end in ("low", "value", "high"))
            axes.hlines(y + offset, low, high, color=colour, linewidth=1.2)
            axes.plot(value, y + offset, "o", color=colour, markersize=4.5)
        axes.axvline(1, color=QUIET, linewidth=0.7)
        axes.set_yticks(y, [f"{short(one.text)}, {_where(one)}" for one in texts], color=INK, fontsize=9)
        axes.set_ylim(len(texts) - 0.5, -0.5)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("shift, in distances to the nearest patient")
        handles = [
            Line2D([], [], marker="o", linestyle="", color=colour, label=label)
            for colour, label in ((BEST, "text"), (QUIET, "grey box"))
        ]
        legend_beneath(figure, handles)
    return figure


def sheet(models: Models, encoder: Encoder, row: int, texts: list[Overlay]) -> Figure:
    """One image clean, with each text and with the first one's box."""
    image = models.judgement.cohort.files().decode(row)
    shown = [("clean", image), *((one.text, one.applied(image)) for one in texts)]
    shown.insert(2, ("its grey box", texts[0].control.applied(image)))
    lines = -(-len(shown) // TILES)
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, lines * (WIDTH / TILES + 0.28))
        grid = np.ravel(figure.subplots(lines, TILES, squeeze=False))
        for axes in grid:
            axes.set_axis_off()
        for axes, (title, one) in zip(grid, shown, strict=False):
            seen_HWC = seen_image(one, models.judgement.cohort, encoder)
            axes.imshow(
                seen_HWC if seen_HWC.shape[2] == 3 else seen_HWC[:, :, 0], cmap="gray", vmin=0, vmax=255
            )
            axes.set_title(short(title), fontsize=9, fontweight="normal")
    return figure


def _pixels(models: Models) -> str:
    size = models.encoder.geometry.size
    return f"{size} x {size} pixels"
