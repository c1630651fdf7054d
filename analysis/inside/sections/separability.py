"""How well feature spaces discriminate labels on held-out patients, in numbers and in the plane."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import INK, QUIET, RULE, STYLE, WIDTH, legend_beneath, new_figure, short
from analysis.inside.models import Models
from analysis.inside.projections import METHODS, not_installed, project
from analysis.inside.separability import PERMUTATIONS, PUBLISHED_PREFIX, SEPARABILITY_METRICS
from analysis.number_format import NONE, counted, score
from analysis.section import Cell, Folded, Part, Picture, Row, Section, Table, Words
from cohort.labels import CHEXPERT_14, NO_FINDING, domain_columns
from search_spaces.publication import PUBLICATION

TITLE = "What the features hold"

SHOWN = ("ratio", "silhouette", "knn_accuracy", "logistic_accuracy")
"""Of SEPARABILITY_METRICS, on the page; all stand in the table."""
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Okabe and Ito's."""
PUBLISHED_ROWS = {
    "zero-shot": (31.890, 21.160, 1.506),
    "fine-tune": (22.754, 12.756, 1.784),
    "linear probe": (31.894, 21.160, 1.507),
}
"""inter, intra and ratio in the table of arXiv 2506.14136."""
DIGITS = {"inter": 2, "intra": 2, "calinski_harabasz": 1, "davies_bouldin": 2}
NORMAL = ("normal", "no finding", "no_finding", "healthy")


def run(models: Models) -> Section:
    table = models.separability
    parts: list[Part] = [
        Words(text=_summary(models, table)),
        _held_out(models, table),
        Words(
            text=f"Mean over the labels that count, each label's positive against its negative images, on "
            "test patients whom centroids, neighbours and regressions have not seen; beneath it what "
            f"{PERMUTATIONS} permutations of the labels over patients give in 95 of 100 cases. The "
            "regression is its first Newton step, of the labels and of their permutations alike. Probe and "
            "zero-shot share the frozen features. Of two classes Davies-Bouldin is 2 / ratio and "
            "Calinski-Harabasz (n − 2) times Fisher's ratio: all stand in separability.csv.",
            kind="note",
        ),
    ]
    if rare := models.points(models.spaces[0]).too_rare:
        names = ", ".join(models.judgement.cohort.label_name(label) for label in rare)
        parts.append(
            Words(text=f"Without two test patients of either kind, and so left out: {names}.", kind="note")
        )
    if (table["label"] != "").any():
        parts.append(
            Picture(
                name="separability",
                figure=accuracies(models, table),
                alt="Balanced accuracy of held-out logistic regressions by label, with what chance gives.",
                caption="Held-out one-step logistic regression, one a label: balanced accuracy, 95 % "
                "interval over patients where ten have the label and ten have not, and in grey what chance "
                "gives.",
            )
        )
        parts.append(Folded(title="Each label", parts=list(_by_label(models, table))))
    parts += _published(models, table)
    parts += _projections(models)
    return Section(parts=parts, tables={"separability": table})


def _summary(models: Models, table: pd.DataFrame) -> str:
    """One sentence a reader may quote."""
    said = []
    for space in models.spaces:
        mine = table[(table["setting"] == space.name) & (table["label"] != "")]
        mine = mine[mine["metric"] == "logistic_accuracy"]
        if len(mine):
            better = int((mine["p_adjusted"] < 0.05).sum())
            said.append(f"{space.name} {better} of {len(mine)}")
    if not said:
        return "No label has two test patients with it and two without, so that nothing can be discriminated."
    images, patients = len(models.judgement.split.rows_N), models.judgement.split.patients
    return (
        f"On {counted(images, 'test image')} of {counted(patients, 'patient')}, labels that a held-out "
        f"logistic regression discriminates better than chance (p < 0.05, adjusted over the labels): "
        f"{'; '.join(said)}."
    )


def _held_out(models: Models, table: pd.DataFrame) -> Table:
    averages = table[table["label"] == ""].set_index(["setting", "metric"])
    rows = [
        Row(
            cells=[
                Cell(text=space.name, small=space.words),
                *(_cell(averages, space.name, metric) for metric in SHOWN),
            ]
        )
        for space in models.spaces
    ]
    return Table(columns=["features", *map(_heading, SHOWN)], rows=rows)


def _heading(metric: str) -> str:
    name, sign, _ = SEPARABILITY_METRICS[metric]
    broken = name.replace(", ", ",\n")
    return f"{broken} {'↑' if sign > 0 else '↓'}"


def _cell(averages: pd.DataFrame, setting: str, metric: str) -> Cell:
    """The value, with its chance beneath."""
    if (setting, metric) not in averages.index:
        return Cell(text=NONE)
    row = averages.loc[(setting, metric)]
    digits = DIGITS.get(metric.removeprefix(PUBLISHED_PREFIX), 3)
    text = score(row["value"], digits)
    if np.isfinite(row["low"]):
        text += f" ({score(row['low'], digits)} to {score(row['high'], digits)})"
    chance = ""
    if np.isfinite(row["chance_low"]):
        chance = f"chance {score(row['chance_low'], digits)} to {score(row['chance_high'], digits)}"
    return Cell(text=text, small=chance)


def _by_label(models: Models, table: pd.DataFrame) -> Iterator[Table]:
    for space in models.spaces:
        mine = table[(table["setting"] == space.name) & (table["label"] != "")]
        indexed = mine.set_index(["label", "metric"])
        rows = []
        for label in dict.fromkeys(mine["label"]):
            own = indexed.loc[label]
            cells = [_cell(indexed, label, metric) for metric in SHOWN]
            name = Cell(
                text=models.judgement.cohort.label_name(label),
                small=counted(int(own["positive_patients"].iloc[0]), "positive patient"),
            )
            known = float(own.loc["logistic_accuracy", "p_adjusted"])
            rows.append(Row(cells=[name, *cells, score(known)], kind="" if known < 0.05 else "quiet"))
        columns = ["label", *map(_heading, SHOWN), "adjusted p of\nthe regression"]
        yield Table(columns=columns, rows=rows, title=space.name, wide=True)


def accuracies(models: Models, table: pd.DataFrame) -> Figure:
    """Balanced accuracy by label, the spaces beneath each other."""
    mine = table[(table["metric"] == "logistic_accuracy") & (table["label"] != "")]
    labels = list(dict.fromkeys(mine["label"]))
    spaces = [space.name for space in models.spaces]
    step = 0.72 / max(len(spaces), 1)
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 0.9 + 0.14 * len(spaces) + len(labels) * (0.16 + 0.13 * len(spaces)))
        axes = figure.subplots()
        for place, space in enumerate(spaces):
            own = mine[mine["setting"] == space].set_index("label").reindex(labels)
            y = np.arange(len(labels)) + (place - (len(spaces) - 1) / 2) * step
            colour = PALETTE[place % len(PALETTE)]
            axes.hlines(y, own["chance_low"], own["chance_high"], color=RULE, linewidth=5, zorder=1)
            axes.hlines(y, own["low"], own["high"], color=colour, linewidth=1.2, zorder=2)
            axes.plot(own["value"], y, "o", color=colour, markersize=4, zorder=3)
        axes.axvline(0.5, color=QUIET, linewidth=0.7)
        axes.set_yticks(
            range(len(labels)),
            [short(models.judgement.cohort.label_name(label)) for label in labels],
            color=INK,
        )
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlabel("balanced accuracy, held out")
        handles = [
            Line2D([], [], marker="o", linestyle="", color=PALETTE[n % len(PALETTE)], label=space)
            for n, space in enumerate(spaces)
        ]
        legend_beneath(figure, [*handles, Line2D([], [], color=RULE, linewidth=5, label="chance")])
    return figure


def _published(models: Models, table: pd.DataFrame) -> Iterator[Part]:
    averages = table[table["label"] == ""].set_index(["setting", "metric"])
    names = [
        metric
        for metric in SEPARABILITY_METRICS
        if (models.spaces[0].name, PUBLISHED_PREFIX + metric) in averages.index
    ]
    if not names:
        yield Words(
            text="By the published protocol there is nothing to measure: all test images are of one class."
        )
        return
    ratio = averages.loc[(models.spaces[0].name, f"{PUBLISHED_PREFIX}ratio")]
    rows = [
        Row(
            cells=[
                Cell(text=space.name, small=space.words),
                *(_cell(averages, space.name, PUBLISHED_PREFIX + metric) for metric in names),
            ]
        )
        for space in models.spaces
    ]
    cohort = models.judgement.cohort
    if cohort.labels == CHEXPERT_14 and cohort.modality == "chest radiograph" and not cohort.drawn:
        for place, (name, values) in enumerate(PUBLISHED_ROWS.items()):
            cells = [
                score(value, DIGITS.get(metric, 3)) for metric, value in zip(names, values, strict=False)
            ]
            cells += [NONE] * (len(names) - len(cells))
            first = Cell(text=f"{name}, as published", small="IU-Xray, authors' own labels, split")
            rows.append(Row(cells=[first, *cells], kind="published", rule=place == 0))
    yield Words(
        text=f"By the published protocol ({PUBLICATION}) an image belongs to the first of its positive "
        "labels, and centroids, neighbours and regressions are scored on the very images that they were "
        f"fitted on. That flatters: labels permuted over patients reach a ratio of "
        f"{score(ratio['chance_low'], 2)} to {score(ratio['chance_high'], 2)} here, where the features as "
        f"they are have {score(ratio['value'], 2)}."
    )
    yield Table(columns=["features", *map(_heading, names)], rows=rows, wide=True)


def _projections(models: Models) -> Iterator[Part]:
    seed = models.judgement.study.seed
    planes, missing, absent = {}, set(), not_installed()
    for space in models.spaces:
        training_ND = space.of(models.features, models.data.rows_N)
        held_ND = space.of(models.features, models.judgement.split.rows_N)
        for method in (method for method in METHODS if method not in absent):
            planes[method, space.name] = found = project(method, training_ND, held_ND, seed)
            if found is None:
                missing.add(method)
    methods = [method for method in METHODS if method not in (*missing, *absent)]
    if absent:
        yield Words(
            text=f"{' and '.join(absent)} left out because the package is not installed; "
            "pip install 'radtune[projections]' adds it.",
            kind="note",
        )
    if missing:
        yield Words(
            text=f"Too few images for {' and '.join(sorted(missing))}, which are left out.", kind="note"
        )
    if not methods:
        return
    fitted = "PCA and UMAP were fitted on training and validation images, TriMap on these images themselves."
    if "TriMap" not in methods:
        fitted = "They were fitted on training and validation images."
    for name, title, groups in _colourings(models):
        yield Picture(
            name=f"projection_{name}",
            figure=plane(models, planes, methods, groups),
            alt=f"Test images in the plane by {', '.join(methods)}, coloured by {title}.",
            caption=f"Test images coloured by {title}. {fitted} Neighbourhoods in a plane are no measure of "
            "separability: that stands in the table above.",
        )


def _colourings(models: Models) -> Iterator[tuple[str, str, dict[str, np.ndarray]]]:
    """(name, title, group -> bool (N,)) of each figure; an image is in one group at most."""
    targets_NC, labels = models.judgement.split.targets_NC, models.judgement.split.labels
    positive_NC = targets_NC == 1
    single_N = positive_NC.sum(axis=1) == 1
    order = np.argsort(-positive_NC.sum(axis=0), kind="stable")
    common = [c for c in order[: len(PALETTE)] if positive_NC[:, c].any()]
    groups = {models.judgement.cohort.label_name(labels[c]): positive_NC[:, c] & single_N for c in common}
    rest_N = single_N & ~positive_NC[:, common].any(axis=1)
    groups |= {"another label": rest_N, "several labels": positive_NC.sum(axis=1) > 1}
    yield "labels", "label", {name: of_N for name, of_N in groups.items() if of_N.any()}
    if (normal_N := _normal(models)) is not None:
        abnormal_N = positive_NC.any(axis=1) & ~normal_N
        yield "normal", "normal and abnormal", {"normal": normal_N, "abnormal": abnormal_N}
    domains = domain_columns(labels)
    if domains:
        of_ND = np.stack([positive_NC[:, columns].any(axis=1) for columns in domains.values()], axis=1)
        one_N = of_ND.sum(axis=1) == 1
        groups = {name: of_ND[:, d] & one_N for d, name in enumerate(domains)}
        groups |= {"several domains": of_ND.sum(axis=1) > 1}
        yield "domains", "domain", {name: of_N for name, of_N in groups.items() if of_N.any()}


def _normal(models: Models) -> np.ndarray | None:
    """bool (N,): images without a finding; None where no label says so."""
    targets_NC, labels = models.judgement.split.targets_NC, models.judgement.split.labels
    for c, label in enumerate(labels):
        if label == NO_FINDING or label.lower() in NORMAL:
            return targets_NC[:, c] == 1
    return None if models.judgement.cohort.multiclass else (targets_NC == 0).all(axis=1)


def plane(
    models: Models,
    planes: dict[tuple[str, str], np.ndarray],
    methods: list[str],
    groups: dict[str, np.ndarray],
) -> Figure:
    """A row a method, a column a space; images in no group lie beneath in light grey."""
    spaces = [space.name for space in models.spaces]
    side = min(2.0, WIDTH / len(spaces))
    colours = _colours(groups)
    with mpl.rc_context(STYLE):
        figure = new_figure(side * len(spaces), side * len(methods) * 0.95 + 0.25 * (1 + len(groups) // 3))
        grid = figure.subplots(len(methods), len(spaces), squeeze=False)
        for row, method in enumerate(methods):
            for column, space in enumerate(spaces):
                axes, xy_N2 = grid[row, column], planes[method, space]
                axes.set_xticks([])
                axes.set_yticks([])
                axes.plot(*xy_N2.T, ".", color=RULE, markersize=2.5, zorder=1)
                for name, of_N in groups.items():
                    axes.plot(*xy_N2[of_N].T, ".", color=colours[name], markersize=3.5, alpha=0.8, zorder=2)
                if row == 0:
                    axes.set_title(textwrap.fill(space, 14), fontsize=9)
                if column == 0:
                    axes.set_ylabel(method)
        handles = [
            Line2D([], [], marker=".", linestyle="", color=colours[name], label=short(name))
            for name in groups
        ]
        legend_beneath(figure, handles, columns=2 if len(spaces) < 3 else 3)
    return figure


def _colours(groups: dict[str, np.ndarray]) -> dict[str, str]:
    own = {"normal": "#56B4E9", "abnormal": "#D55E00", "another label": "#8a94a0"}
    own |= {"several labels": INK, "several domains": INK}
    free = iter(PALETTE)
    return {name: own.get(name) or next(free) for name in groups}
