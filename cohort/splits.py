"""Which patients train, which validate, which test.

Shape legend: N images, P patients, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from iterstrat.ml_stratifiers import IterativeStratification
from sklearn.model_selection import train_test_split

from cohort.errors import InputError
from cohort.manifest import SPLITS
from cohort.patients import FEWEST_PATIENTS, fewer_patients, positive_by_patient, positive_patients

FRACTIONS = (0.7, 0.15, 0.15)

_SPELLINGS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validate": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "holdout": "test",
    "hold-out": "test",
}

# Iterative stratification is greedy and knows nothing of how many images a patient has, so the order in
# which it meets the patients matters in small cohorts, where a draw costs milliseconds. The best of so many
# orders is kept; large cohorts need fewer: about so many patients are placed in all.
_DRAWS = 64
_PATIENTS_DEALT = 150_000


def paper_split(uids: Sequence[str]) -> list[str]:
    """The splitting procedure of arXiv 2506.14136, section "Data": `train_test_split(uids, test_size=0.30,
    random_state=42)` over the distinct uids in the order given, then the 30 % in half, `random_state=42`
    again.

    Its result depends on the order of the uids, and the authors' own order is not published: this is the
    paper's procedure, not the paper's split. Returns one of `SPLITS` for each entry of `uids`.
    """
    distinct = list(dict.fromkeys(uids))
    train, rest = train_test_split(distinct, test_size=0.30, random_state=42)
    val, test = train_test_split(rest, test_size=0.50, random_state=42)
    side = {uid: split for split, part in zip(SPLITS, (train, val, test), strict=True) for uid in part}
    return [side[uid] for uid in uids]


def stratified_split(
    targets_NC: np.ndarray,
    patients_N: np.ndarray,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> list[str]:
    """Split by patient so that every label is spread over the sides as `fractions` says.

    Iterative stratification (Sechidis et al., ECML PKDD 2011) of the patients, each carrying the labels
    that any of its images has (masked cells count as 0). How many images a patient has is stratified as
    well, by powers of two. Of several seeded orders of the patients the one is kept that leaves the fewest
    labels absent from a side although enough patients have them, and among those the one nearest to
    `fractions` in images and in positive images a label.

    `targets_NC` holds 0, 1 and NaN, `patients_N` any codes. Returns one of `SPLITS` an image. The same
    arguments give the same split. Raises InputError where there are fewer patients than sides, or too few for
    `fractions` to leave one on each, and for a seed outside 0..2**32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed of a split must lie in 0..{2**32 - 1}, got {seed}")
    fractions = np.asarray(fractions, dtype=np.float64)
    if fractions.shape != (3,) or not (fractions > 0).all() or not abs(fractions.sum() - 1) <= 1e-9:
        raise InputError(f"fractions must be three positive numbers that sum to 1, got {fractions.tolist()}")
    positive_NC = np.asarray(targets_NC) == 1
    positive_PC, patients_N = positive_by_patient(positive_NC, patients_N)
    images_P = np.bincount(patients_N)
    if len(images_P) < 3:
        raise InputError(f"a split into {', '.join(SPLITS)} needs at least 3 patients, got {len(images_P)}")

    size_P = np.log2(images_P).astype(np.int64)
    size_PB = size_P[:, None] == np.arange(1, size_P.max() + 1)
    strata_PS = np.concatenate([positive_PC, size_PB], axis=1)

    # Desired and achieved positive images a label, and images in all, on each side.
    counted_NC = np.concatenate([positive_NC, np.ones((len(positive_NC), 1), dtype=bool)], axis=1)
    counted_PC = np.zeros((len(images_P), counted_NC.shape[1]))
    np.add.at(counted_PC, patients_N, counted_NC)
    total_C = np.maximum(counted_PC.sum(axis=0), 1)
    enough_C = positive_PC.sum(axis=0) >= 3

    best_score, best_P = None, None
    for draw in range(int(np.clip(_PATIENTS_DEALT // len(images_P), 1, _DRAWS))):
        rng = np.random.RandomState((seed, draw))
        order_P = rng.permutation(len(images_P))
        side_P = np.empty(len(images_P), dtype=np.int64)
        side_P[order_P] = IterativeStratification(strata_PS[order_P], fractions.copy(), rng)
        absent, distance = 0, 0.0
        for side, fraction in enumerate(fractions):
            absent += int((enough_C & ~positive_PC[side_P == side].any(axis=0)).sum())
            absent += len(enough_C) * int(not (side_P == side).any())
            distance += np.abs(counted_PC[side_P == side].sum(axis=0) / total_C - fraction).sum()
        if best_score is None or (absent, distance) < best_score:
            best_score, best_P = (absent, distance), side_P
    for side, split in enumerate(SPLITS):
        if not (best_P == side).any():
            raise InputError(
                f"the split {split!r} came out empty: {len(images_P)} patients are too few for the fractions "
                f"{fractions.tolist()}; add patients, or give a split of your own"
            )
    return [SPLITS[side] for side in best_P[patients_N]]


def split_called(word: str) -> str | None:
    """The split that a word stands for, in any case, or None."""
    return _SPELLINGS.get(word.strip().lower())


def given_split(values: Sequence[object], patients: Sequence[str], where: str) -> list[str]:
    """The split of a source's own column: `train` (`training`), `val` (`valid`, `validation`, `validate`,
    `dev`) and `test` (`testing`, `holdout`), in any case; not all of them need occur.

    `where` names the column in messages. Raises InputError for another value and for a patient on two sides.
    """
    splits = []
    side: dict[str, str] = {}
    for row, (value, patient) in enumerate(zip(values, patients, strict=True)):
        split = split_called(str(value))
        if split is None:
            raise InputError(
                f"{where}: image {row + 1} has the split {value!r}; it must be train, val (valid, "
                "validation) or test; leave the split column out to have a stratified split drawn"
            )
        if side.setdefault(patient, split) != split:
            raise InputError(
                f"{where}: patient {patient!r} lies in {side[patient]!r} and in {split!r}; a patient must be "
                "on one side; leave the split column out to have a patient-grouped split drawn"
            )
        splits.append(split)
    return splits


def with_val_from_train(
    splits: Sequence[str], targets_NC: np.ndarray, patients: Sequence[str], share: float, seed: int
) -> list[str]:
    """A given split with a share of its training patients for validation, spread as `stratified_split` does;
    InputError where there are validation patients already, or too few patients."""
    if "val" in splits:
        raise InputError("--val-from-train: there is a validation split already; leave it out")
    train = [n for n, split in enumerate(splits) if split == "train"]
    fractions = (1 - share, share / 2, share / 2)
    drawn = stratified_split(targets_NC[train], np.asarray(patients)[train], fractions, seed)
    splits = list(splits)
    for n, side in zip(train, drawn, strict=True):
        splits[n] = "train" if side == "train" else "val"
    return splits


def unfit_for_a_study(
    targets_NC: np.ndarray, patients_N: np.ndarray, splits_N: Sequence[str], given: bool
) -> list[str]:
    """Warnings of what `radtune run` and `radtune analyze` would refuse, or could say nothing about, hours
    later: an absent split, and a test split in which no label has enough patients to be scored.

    Args:
        given: whether the source gave the splits; otherwise they were drawn.
    """
    splits_N = np.asarray(splits_N, dtype=object)
    warnings = []
    if without := [split for split in ("train", "val") if not (splits_N == split).any()]:
        remedy = "name some patients so in the split column, or leave it out to have a split drawn"
        warnings.append(f"no {' and no '.join(without)} split: `radtune run` needs both; {remedy}")
    test_N = splits_N == "test"
    if not test_N.any():
        warnings.append("no test split: `radtune analyze` has nothing to score; name some patients so")
        return warnings
    patients_N = np.asarray(patients_N)
    fewer_C = fewer_patients(targets_NC[test_N], patients_N[test_N])
    if not (fewer_C >= FEWEST_PATIENTS).any():
        remedy = "put more patients into it" if given else "add patients, or draw a larger one (--fractions)"
        warnings.append(
            f"no label has {FEWEST_PATIENTS} positive and {FEWEST_PATIENTS} negative patients in test (of "
            f"the rarer at most {fewer_C.max()}): `radtune analyze` states counts and no scores; {remedy}"
        )
    return warnings


def too_rare_for_three_sides(
    targets_NC: np.ndarray, patients_N: np.ndarray, labels: Sequence[str]
) -> list[str]:
    """Warnings of the labels with fewer than three positive patients, or one or two negative ones, which no
    patient-grouped split puts on all three sides; rarest first. A label without a negative is warned of
    elsewhere.
    """
    positive_C = positive_patients(targets_NC, patients_N)
    negative_C = positive_patients(np.asarray(targets_NC) == 0, patients_N)
    rare = [(count, label, "positive") for label, count in zip(labels, positive_C, strict=True)]
    rare += [(count, label, "negative") for label, count in zip(labels, negative_C, strict=True) if count]
    return [
        f"{label}: {count} {side} patients, too few for three sides"
        for count, label, side in sorted(rare, key=lambda one: one[0])
        if count < 3
    ]
