"""From a source's rows, one an image, to a cohort folder: find the files, open each once, write the manifest.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cohort.duplicates import Pair, across, described, find_duplicates, first_pairs, joined
from cohort.errors import InputError
from cohort.facts import CohortFacts
from cohort.image_files import ImageFiles, Inspected, image_names, inspect_images, list_files
from cohort.intensity import Intensity, find_intensity, little_contrast, parse_rule, voi_of
from cohort.labels import NO_FINDING, LabelPolicy
from cohort.manifest import KEEP, Cohort
from cohort.raters import Raters
from cohort.readers.named_files import find_files
from cohort.readers.options import SharedOptions
from cohort.spellings import folded, spelled_alike
from cohort.splits import FRACTIONS, stratified_split, unfit_for_a_study
from cohort.writing import write_cohort

_NAMED = 3


@dataclass(kw_only=True)
class SourceRows:
    """What a reader found out from its tables; every sequence has one entry per image."""

    image: Sequence[str]
    names: Sequence[Sequence[str]]
    """The names its file may have, the likeliest first: paths, bare file names, with or without ending."""
    patient: Sequence[str]
    study: Sequence[str]
    view: Sequence[str]
    split: Sequence[str] | None
    """As the source gives it; None where a stratified one is drawn."""
    keep: Mapping[str, Sequence[Any]]
    raw_NC: np.ndarray
    """The source's label cells: 1, 0, -1 (uncertain), NaN (blank)."""
    targets_NC: np.ndarray
    contradictions: Sequence[int]
    """Rows that state "No Finding" together with a finding."""
    labels: Sequence[str]
    policy: LabelPolicy
    source: str
    reader: str
    modality: str
    flow: list[tuple[str, int]]
    licence: str = ""
    """The source's own, where the options name none."""
    citation: str = ""
    multiclass: bool = False
    ordinal: bool = False
    warnings: list[str] = field(default_factory=list)
    raters: Raters | None = None
    where_to_get: str = "check the images' folder and the names in the table"
    """What to do about missing files, for the warning."""


def assemble(rows: SourceRows, images: Path | str, out: Path | str, options: SharedOptions) -> Cohort:
    """Find and open every image of `rows` in `images` (folder or zip archive), then write the cohort.

    Percentiles and full scale of 16-bit gray are those of the training images, or of all where none of them
    has 16 bits.

    A split that is drawn keeps together patients whose names differ in spelling only and, unless
    `allow_duplicates`, those who share an image.

    Rows without a file are kept with `present` false and a warning. Raises InputError where no file is there,
    where a name fits several files, for an unknown rule, where no split can be drawn, unless
    `skip_unreadable` for files that do not decode, and unless `allow_duplicates` for images that are the same
    or nearly so in several splits.
    """
    # Before the images are read, which may take an hour.
    parse_rule(options.intensity)
    voi = voi_of(options.intensity)
    facts = CohortFacts(
        labels=rows.labels,
        source=rows.source,
        policy=rows.policy,
        reader=rows.reader,
        modality=rows.modality,
        licence=rows.licence if options.licence is None else options.licence,
        citation=rows.citation,
        multiclass=rows.multiclass,
        ordinal=rows.ordinal,
        label_names=options.label_names or {},
        label_prompts=options.label_prompts or {},
        contradictions=[rows.image[n] for n in rows.contradictions],
        uncertain={label: (rows.raw_NC[:, c] == -1).sum() for c, label in enumerate(rows.labels)},
        raters=rows.raters,
    )
    split = _split(rows, (), options)
    count = len(rows.image)
    found, absent = _find_images(rows, images)
    there = [n for n in range(count) if found[n] is not None]
    files = ImageFiles(images, [found[n] for n in there])
    inspected = inspect_images(files, _training(split, there), voi)
    unreadable = {there[i]: message for i, message in inspected.unreadable.items()}
    warnings = [*rows.warnings, *_unreadable_warnings(unreadable, found, options.skip_unreadable)]
    pairs = [
        Pair(there[pair.first], there[pair.second], pair.correlation)
        for pair in find_duplicates(inspected.pixels, inspected.thumbnails_NHW)
    ]
    if rows.split is None and across(pairs, rows.patient) and not options.allow_duplicates:
        split = _split(rows, pairs, options)
        if inspected.gray_16_bit:  # their values are those of other training images
            inspected = inspect_images(files, _training(split, there), voi)

    needed = inspected.gray_16_bit or voi
    levels = find_intensity(options.intensity, inspected.counts_V) if needed else None
    warnings += _pixel_warnings(inspected, levels, options.intensity)
    if inspected.blank:
        first = _first([found[there[i]] for i in inspected.blank])
        warnings.append(f"{len(inspected.blank)} images are blank, every pixel the same ({first})")
    digest = [""] * count
    for n, image_digest in zip(there, inspected.digests, strict=True):
        digest[n] = image_digest
    warnings += _duplicate_warnings(rows, split, pairs, images, options.allow_duplicates)
    warnings += _row_warnings(rows, split)
    warnings += unfit_for_a_study(rows.targets_NC, rows.patient, split, rows.split is not None)
    flow = [*rows.flow, ("image file there", len(there))]
    if unreadable:
        flow.append(("image readable", len(there) - len(unreadable)))
    facts = replace(
        facts,
        channels=inspected.channels,
        intensity=levels,
        flow=flow,
        warnings=[*warnings, *absent],  # what is not there stands last, where it is seen
        duplicates=[(rows.image[pair.first], rows.image[pair.second], pair.correlation) for pair in pairs],
    )
    columns = _columns(rows, split, found, digest)
    return write_cohort(out, columns, rows.targets_NC, images_root=images, **vars(facts))


def _find_images(rows: SourceRows, images: Path | str) -> tuple[list[str | None], list[str]]:
    """The file of each row, or None, and warnings of those without; InputError where no row has
    one."""
    count = len(rows.image)
    files = list_files(images)
    readable = image_names(images, files)
    others = sorted(set(files) - set(readable))
    found, warnings = find_files(rows.names, readable, images, others)
    missing = [n for n in range(count) if found[n] is None]
    if len(missing) == count:
        raise InputError(
            f"{images}: none of the {count} images is there (the first looked for is {rows.names[0][0]!r}); "
            f"{'; '.join(warnings) or rows.where_to_get}"
        )
    if missing:
        first = _first([rows.names[n][0] for n in missing])
        warnings.append(f"{len(missing)} of {count} image files are missing ({first}); {rows.where_to_get}")
    return found, warnings


def _columns(
    rows: SourceRows, split: Sequence[str], found: Sequence[str | None], digests: Sequence[str]
) -> dict[str, Sequence]:
    """The manifest's columns beside the labels."""
    return {
        "image": rows.image,
        "file": [file or names[0] for file, names in zip(found, rows.names, strict=True)],
        "digest": digests,
        "present": [bool(digest) for digest in digests],
        "patient": rows.patient,
        "study": rows.study,
        "view": rows.view,
        "split": split,
    } | {KEEP + name: cells for name, cells in rows.keep.items()}


def _split(rows: SourceRows, pairs: Sequence[Pair], options: SharedOptions) -> Sequence[str]:
    """The split that the source gives, or one that keeps together the patients of each pair of images, and
    those whose names are one in several spellings."""
    if rows.split is not None:
        return rows.split
    first: dict[str, str] = {}
    names = [first.setdefault(folded(patient), patient) for patient in rows.patient]
    groups_N = joined(names, [pair[:2] for pair in pairs])
    try:
        return stratified_split(rows.targets_NC, groups_N, options.fractions or FRACTIONS, options.seed)
    except InputError as error:
        shared = _in_words(across(pairs, rows.patient), rows.image, rows.patient)
        if not shared:
            raise
        raise InputError(
            f"{shared} of several patients, whom a split keeps together: {error}; pass --allow-duplicates to "
            "draw one all the same"
        ) from error


def _unreadable_warnings(unreadable: Mapping[int, str], found: Sequence[str | None], skip: bool) -> list[str]:
    """One of the files that do not decode, or none; InputError where they are not to be skipped."""
    if not unreadable:
        return []
    several = f"; {len(unreadable)} such files: {_first([found[n] for n in unreadable])}"
    message = f"{next(iter(unreadable.values()))}{several if len(unreadable) > 1 else ''}"
    if not skip:
        raise InputError(f"{message}; mend or remove them, or pass --skip-unreadable")
    return [f"{len(unreadable)} unreadable image files were skipped: {message}"]


def _duplicate_warnings(
    rows: SourceRows, split: Sequence[str], pairs: Sequence[Pair], images: Path | str, allowed: bool
) -> list[str]:
    """One of images that are the same in several splits, or else of several patients, or none; InputError for
    the former unless they are allowed."""
    if leaks := _in_words(across(pairs, split), rows.image, split):
        if not allowed:
            raise InputError(
                f"{images}: {leaks} in several splits, so that a model would be tested on what it was "
                "trained on; keep one row of each, give them one patient and one split, or pass "
                "--allow-duplicates"
            )
        return [f"{leaks} in several splits: scores there flatter the model"]
    if shared := _in_words(across(pairs, rows.patient), rows.image, rows.patient):
        kept = ", whom the split keeps together" if rows.split is None and not allowed else ""
        return [f"{shared} of several patients{kept}: `radtune cohort show --duplicates FILE` draws them"]
    return []


def _training(split: Sequence[str], there: Sequence[int]) -> set[int]:
    return {i for i, n in enumerate(there) if split[n] == "train"}


def _in_words(pairs: Sequence[Pair], images: Sequence[str], values: Sequence[str]) -> str:
    """`2 pairs of images are the same or nearly so (...)`; "" where there are none."""
    if not pairs:
        return ""
    said = first_pairs([described(pair, images, values) for pair in pairs])
    many = "1 pair of images is" if len(pairs) == 1 else f"{len(pairs)} pairs of images are"
    return f"{many} the same or nearly so ({said})"


def _row_warnings(rows: SourceRows, split: Sequence[str]) -> list[str]:
    """What stands in the rows and may not be meant."""
    warnings = []
    differ = "differ from another in case, hyphens, width or a final .0 only"
    if alike := spelled_alike(rows.labels):
        pairs = _first([f"{one} and {other}" for one, other in alike])
        warnings.append(f"{len(alike)} labels {differ} ({pairs}): taken for different ones")
    if alike := spelled_alike(rows.patient):
        side = dict(zip(rows.patient, split, strict=True))
        apart = [(one, other) for one, other in alike if side[one] != side[other]]
        pairs = _first([f"{one} and {other}" for one, other in apart or alike])
        said = f"{len(alike)} patients {differ} ({pairs}): taken for different ones"
        if apart:
            said += f", and {len(apart)} of them lie in another split; if they are the same, scores flatter"
        warnings.append(said)
    if rows.contradictions:
        first = _first([rows.image[n] for n in rows.contradictions])
        warnings.append(
            f"{len(rows.contradictions)} images state {NO_FINDING} together with a finding ({first})"
        )
    return warnings


def _pixel_warnings(inspected: Inspected, intensity: Intensity | None, rule: str) -> list[str]:
    """What was done to pixels on the way in, and what of it may not be meant."""
    warnings = [f"{len(images)} images {note}" for note, images in sorted(inspected.notes.items())]
    readable, deep = sum(map(bool, inspected.digests)), len(inspected.gray_16_bit)
    if intensity is None:
        if rule != "full":
            warnings.append(f"intensity {rule} changes nothing: no image has 16-bit gray")
        return warnings
    if 0 < deep < readable:
        warnings.append(f"{deep} of {readable} images have 16-bit gray, the others have 8 bits")
    if doubt := little_contrast(intensity, inspected.counts_V):
        warnings.append(doubt)
    return warnings


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
