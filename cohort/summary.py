"""A cohort in plain text: what `radtune cohort show` prints.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cohort.annotations import Annotations
from cohort.duplicates import Pair, across, described, first_pairs, positives
from cohort.labels import NO_FINDING
from cohort.manifest import KEEP, LABEL, Cohort
from cohort.near_duplicates import ALIKE
from cohort.patients import positive_patients
from cohort.readers.iu_xray import compare_with_paper

_LISTED = 5


def describe(cohort: Cohort) -> str:
    """Counts and prevalence a label and split, patients, prompts, views, kept columns, masked cells, missing
    files, contradictions, images that stand in it twice, and the flow from rows read to images kept; for
    IU-Xray the paper's counts as well.

    What does not apply stays out: views that nobody gave, "No Finding" where it is no label, columns that
    are 0 throughout. All counts are over all rows of the manifest, those with a missing file among them.
    """
    table = cohort.table
    colour = "gray" if cohort.channels == 1 else "in colour"
    sections = [
        _align(
            [
                ["cohort", str(cohort.folder)],
                ["source", cohort.source],
                ["images", f"{cohort.images_root} ({colour})"],
                *([["16-bit gray", cohort.intensity.described()]] if cohort.intensity else []),
                ["modality", cohort.modality + (", drawn in code" if cohort.drawn else "")],
                ["licence", cohort.licence or "not stated"],
                *([["cite", cohort.citation]] if cohort.citation else []),
                ["labels", _kind_of_labels(cohort)],
                ["policy", cohort.policy.described(cohort.labels)],
                ["content", cohort.content_hash[:16]],
            ],
            "l",
        )
    ]
    if cohort.flow:
        sections.append("Flow\n" + _align([[f"{count}", what] for what, count in cohort.flow], "rl"))
    label_rows = _label_rows(cohort)
    patients = "positive patients (without the label, where these are fewer)"
    known = " among unmasked" if "masked" in label_rows[0] else ""
    sections += [
        "Splits\n" + _align(_split_rows(cohort), "lr"),
        f"Labels: positives (prevalence{known}), {patients}\n" + _align(label_rows, "lr"),
    ]
    sections += _raters(cohort)
    if cohort.label_prompts:
        prompts = [[label, "; ".join(texts)] for label, texts in cohort.label_prompts.items()]
        sections.append("Prompts of their own\n" + _align(prompts, "l"))
    views = Counter(view or "(blank)" for view in table["view"].to_pylist())
    if set(views) != {"(blank)"}:
        sections.append("Views\n" + _align([[view, str(count)] for view, count in views.most_common()], "lr"))
    kept = [name for name in table.column_names if name.startswith(KEEP)]
    if kept:
        rows = [[name.removeprefix(KEEP), *_column_summary(table[name].to_pylist())] for name in kept]
        sections.append("Kept columns\n" + _align([["", "filled", "values"], *rows], "lrl"))
    missing = table.num_rows - cohort.present.num_rows
    sections.append(f"Files: {cohort.present.num_rows} present, {missing} missing or unreadable")
    sections += _annotations(cohort)
    sections += _duplicates(cohort)
    if NO_FINDING in cohort.labels and not cohort.multiclass:
        listed = ", ".join(cohort.contradictions[:_LISTED]) + (
            ", ..." if len(cohort.contradictions) > _LISTED else ""
        )
        sections.append(
            f"Contradictions ({NO_FINDING} together with a finding): {len(cohort.contradictions)}"
            + (f" ({listed})" if listed else "")
        )
    if cohort.reader == "iu_xray":
        comparison = compare_with_paper(cohort).replace("\n", "\n  ")
        sections.append(f"Positives beside the counts of arXiv 2506.14136\n  {comparison}")
    if cohort.warnings:
        sections.append("Warnings\n" + "\n".join(f"  {warning}" for warning in cohort.warnings))
    return "\n\n".join(sections)


def _kind_of_labels(cohort: Cohort) -> str:
    if cohort.ordinal:
        return f"one grade per image, from {cohort.labels[0]} to {cohort.labels[-1]} (ordinal)"
    return "one per image (multiclass)" if cohort.multiclass else "independent findings"


def _split_rows(cohort: Cohort) -> list[list[str]]:
    table = cohort.table
    split_N = np.asarray(table["split"].to_pylist(), dtype=object)
    patient_N = np.asarray(table["patient"].to_pylist(), dtype=object)
    present_N = table["present"].to_numpy()
    rows = [["", "images", "share", "patients", "missing"]]
    for name in (*cohort.splits, "all"):
        side_N = split_N == name if name != "all" else np.ones(len(split_N), dtype=bool)
        rows.append(
            [
                name,
                str(side_N.sum()),
                f"{side_N.mean():.1%}",
                str(len(set(patient_N[side_N]))),
                str((side_N & ~present_N).sum()),
            ]
        )
    return _without_zeros(rows)


def _label_rows(cohort: Cohort) -> list[list[str]]:
    table = cohort.table
    targets_NC = np.array([table[LABEL + label].to_pylist() for label in cohort.labels], dtype=np.float64).T
    split_N = np.asarray(table["split"].to_pylist(), dtype=object)
    patient_N = np.asarray(table["patient"].to_pylist(), dtype=object)
    sides = [(name, split_N == name) for name in cohort.splits] + [("all", np.ones(len(split_N), dtype=bool))]
    rows = [["", *(name for name, _ in sides), "patients " + "/".join(cohort.splits), "masked", "uncertain"]]
    patients, without = (
        np.array([positive_patients(of_NC[side_N], patient_N[side_N]) for _, side_N in sides[:-1]])
        for of_NC in (targets_NC, targets_NC == 0)
    )
    for c, label in enumerate(cohort.labels):
        name = cohort.label_names.get(label)
        row = [f"{label} ({name})" if name else label]
        for _, side_N in sides:
            column = targets_NC[side_N, c]
            known = (~np.isnan(column)).sum()
            positive = (column == 1).sum()
            row.append(f"{positive} ({positive / known:.1%})" if known else "0 (all masked)")
        # Scores rest on the smaller side: the patients without the label where they are fewer.
        fewer = f" (without {'/'.join(map(str, without[:, c]))})" if (without < patients)[:, c].any() else ""
        row.append("/".join(map(str, patients[:, c])) + fewer)
        row += [str(np.isnan(targets_NC[:, c]).sum()), str(cohort.uncertain.get(label, 0))]
        rows.append(row)
    return _without_zeros(rows)


def _raters(cohort: Cohort) -> list[str]:
    """A section on how far raters agree, or none where there were no several."""
    raters = cohort.raters
    if raters is None:
        return []
    rows = [["", "disagreements", raters.statistic]]
    for label in cohort.labels:
        kappa = raters.kappa.get(label)
        rows.append([label, str(raters.disagreements.get(label, 0)), "" if kappa is None else f"{kappa:.2f}"])
    counted = f"{raters.count} in all, {raters.images} images have two at least"
    return [f"Raters: {raters.rule} ({counted})\n" + _align(rows, "lr")]


def _annotations(cohort: Cohort) -> list[str]:
    """A section on regions of labels and of organs, or none without any."""
    found = Annotations.open(cohort)
    if found is None:
        return []
    rows = [["", "images", "regions", "masks", *(["raters"] if len(found.raters) > 1 else [])]]
    names = [(label, "") for label in cohort.labels] + [("", organ) for organ in sorted(found.organs)]
    for label, organ in names:
        regions = [region for region in found.regions if (region.label, region.organ) == (label, organ)]
        if regions:
            row = [
                f"{organ} (organ)" if organ else label,
                str(len({region.image for region in regions})),
                str(len(regions)),
                str(sum(region.runs is not None for region in regions)),
            ]
            raters = len({region.rater for region in regions})
            rows.append([*row, *([str(raters)] if len(found.raters) > 1 else [])])
    who = (
        f", raters: {', '.join(rater or '(no name)' for rater in found.raters)}" if any(found.raters) else ""
    )
    return [f"Annotations (content {found.content_hash[:16]}{who})\n" + _align(_without_zeros(rows), "lr")]


def _duplicates(cohort: Cohort) -> list[str]:
    """A section, or none where every image is another."""
    if not cohort.duplicates:
        return []
    table = cohort.table
    images = table["image"].to_pylist()
    place = {image: n for n, image in enumerate(images)}
    pairs = [Pair(place[first], place[second], alike) for first, second, alike in cohort.duplicates]
    targets_NC = np.array([table[LABEL + label].to_pylist() for label in cohort.labels], dtype=np.float64).T
    rows = [
        _pairs_row(what, [described(pair, images) for pair in pairs if (pair.correlation is None) == same])
        for what, same in (("the same pixels", True), (f"correlation above {ALIKE}", False))
    ]
    values = {
        "across splits": table["split"].to_pylist(),
        "across patients": [f"patient {patient}" for patient in table["patient"].to_pylist()],
        "with different labels": positives(targets_NC, cohort.labels),
    }
    rows += [
        _pairs_row(what, [described(pair, images, known) for pair in across(pairs, known)])
        for what, known in values.items()
    ]
    concerned = len({n for pair in pairs for n in pair[:2]})
    return [
        f"Images that are the same or nearly so: {concerned} of {cohort.present.num_rows}, in pairs\n"
        + _align([row for row in rows if row[1] != "0"], "lrl")
    ]


def _pairs_row(what: str, pairs: Sequence[str]) -> list[str]:
    return [what, str(len(pairs)), first_pairs(pairs)]


def _column_summary(values: Sequence[object]) -> list[str]:
    given = [value for value in values if value is not None]
    if not given:
        return ["0", ""]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
        low, middle, high = np.quantile(given, [0, 0.5, 1])
        return [str(len(given)), f"{low:g} to {high:g}, median {middle:g}"]
    counts = Counter(map(str, given))
    if len(counts) > 20:
        return [str(len(given)), f"{len(counts)} different texts"]
    shown = [f"{value} {count}" for value, count in counts.most_common(_LISTED)]
    return [str(len(given)), ", ".join(shown) + (", ..." if len(counts) > _LISTED else "")]


def _without_zeros(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The rows, header first, without the columns in which every row has 0."""
    kept = [c for c in range(len(rows[0])) if any(row[c] != "0" for row in rows[1:])]
    return [[row[c] for c in kept] for row in rows]


def _align(rows: Sequence[Sequence[str]], flush: str) -> str:
    """Aligned columns, indented by two; `flush` is l or r for each column, and its last letter repeats."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    flush = flush.ljust(len(widths), flush[-1])

    def cell(c: int, text: str) -> str:
        return text.ljust(widths[c]) if flush[c] == "l" else text.rjust(widths[c])

    return "\n".join("  " + "  ".join(cell(c, text) for c, text in enumerate(row)).rstrip() for row in rows)
