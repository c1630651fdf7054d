"""The table between training and judging: what every row says of every image, and no label.

A study writes it when it ends, and everything that judges reads it: scores, comparisons, claims, curves. The
predictions of another cohort, or of somebody else's model, have the same shape. Roles decide what a row is
for, ids join it with other tables, and names are for people.

Shape legend: N images, M judged development images, C labels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scoring.decision_rule import DecisionRule
from scoring.judging import Scale

ANSWER, TRIAL, PUBLISHED, BASELINE, OTHER_STUDY, IMPORTED = ROLES = (
    "answer",
    "trial",
    "published",
    "baseline",
    "other_study",
    "imported",
)
"""The study's answer, of which claims are made; another configuration of it; a configuration as a paper
published it; a method that the answer has to beat; another study's answer; somebody else's scores."""

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a row, or a predictor, comes from, for tables, cards and the record.

    >>> Origin(note="projected features", study="probe", trainable="linear_probe", trial=17).trial
    17
    """

    note: str
    """What it knows, for the reader of a table."""
    study: str = ""
    trainable: str = ""
    """What trained it, such as `linear_probe`; empty for what no study trained."""
    trial: int | None = None
    """The configuration's number in the study."""
    preset: str = ""
    """Name of a published configuration, such as `paper`."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """The configuration."""
    objective: float = float("nan")
    """The study's objective on validation; NaN where there is none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionRow:
    """What one row says of every image; ValueError where its parts do not fit.

    >>> row = PredictionRow(id="trial/17", name="best", role=TRIAL, origin=Origin(note="projected features"),
    ...                     rule=DecisionRule.fixed(2), scores_NC=np.array([[0.5, -1.0]]))
    >>> row.note, row.rule.decide(row.scores_NC).tolist()
    ('projected features', [[True, False]])
    """

    id: str
    """Unique in its table, `baseline/logreg` or `trial/17` say; it joins tables and is not shown."""
    name: str
    """Unique in its table; shown, and never compared with."""
    role: str
    """One of ROLES."""
    origin: Origin
    rule: DecisionRule
    ranks_only: bool = False
    """The scores are no logits: only their order means something."""
    constant: bool = False
    """Every image gets the same scores, so that nothing is ranked."""
    scores_NC: np.ndarray
    """float64: of development images by what was not trained on them, of others as the row gives them; NaN in
    the lines of images of which there is no such score."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role must be one of {', '.join(ROLES)}, not {self.role!r}")
        labels = len(self.rule.thresholds_C)
        if self.scores_NC.ndim != 2 or self.scores_NC.shape[1] != labels:
            raise ValueError(f"scores_NC must have {labels} labels, not {self.scores_NC.shape}")
        if self.scores_NC.dtype != np.float64:
            raise ValueError(f"scores_NC must be float64, not {self.scores_NC.dtype}")

    @property
    def note(self) -> str:
        """What it knows, for the reader of a table."""
        return self.origin.note


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictedImages:
    """The images of a table, one entry each.

    >>> images = PredictedImages(image=("a", "b"), patient=("p", "q"), study=("", ""), split=("val", "test"),
    ...                          fold_N=np.array([0, -1]), threshold_fold_N=np.array([0, -1]))
    >>> len(images), images.judged_N.tolist(), images.folds
    (2, [0], 1)
    """

    image: tuple[str, ...]
    patient: tuple[str, ...]
    study: tuple[str, ...]
    """Of the hospital; empty strings where it is not known."""
    split: tuple[str, ...]
    """train, val or test; of another cohort empty."""
    fold_N: np.ndarray
    """int64: the fold in which the image is judged, -1 of one that is not judged in development."""
    threshold_fold_N: np.ndarray
    """int64: of a judged image, the fold in which thresholds are judged on it that were fitted on the others;
    -1 elsewhere."""

    def __len__(self) -> int:
        return len(self.image)

    @property
    def judged_N(self) -> np.ndarray:
        """int64, ascending: the places of the development images that are judged."""
        return np.flatnonzero(self.fold_N >= 0)

    @property
    def folds(self) -> int:
        return int(self.fold_N.max(initial=-1)) + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Rows x images x labels; ValueError where they do not fit together.

    >>> rule = DecisionRule.fixed(2)
    >>> images = PredictedImages(image=("a", "b"), patient=("p", "q"), study=("", ""), split=("val", "test"),
    ...                          fold_N=np.array([0, -1]), threshold_fold_N=np.array([0, -1]))
    >>> row = PredictionRow(id="answer", name="study", role="answer", origin=Origin(note=""), rule=rule,
    ...                     scores_NC=np.array([[0.5, -1.0], [2.0, 0.0]]))
    >>> table = Predictions(labels=("Edema", "Mass"), multiclass=False, images=images, rows=(row,))
    >>> table.answer.rule.decide(table.answer.scores_NC).tolist()
    [[True, False], [True, True]]
    """

    labels: tuple[str, ...]
    multiclass: bool
    images: PredictedImages
    rows: tuple[PredictionRow, ...]
    """The least informed first."""
    averaged: tuple[str, ...] = ()
    """Labels that the study's objective averages."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else is known of them, as JSON: cohort, encoder, why a baseline is absent."""

    def __post_init__(self) -> None:
        for what in ("id", "name"):
            values = [getattr(row, what) for row in self.rows]
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{what} must be unique among the rows, and {twice[0]!r} is not")
        if sum(row.role == ANSWER for row in self.rows) > 1:
            raise ValueError("one row at most may be the answer")
        shape = (len(self.images), len(self.labels))
        for row in self.rows:
            if row.scores_NC.shape != shape:
                raise ValueError(f"scores_NC of {row.id} must be {shape}, not {row.scores_NC.shape}")
        if unknown := [label for label in self.averaged if label not in self.labels]:
            raise ValueError(f"averaged must name labels of the table, not {unknown[0]!r}")

    @property
    def answer(self) -> PredictionRow:
        """The row that claims are about; LookupError without one."""
        return self.of_role(ANSWER)[0] if self.of_role(ANSWER) else _no_answer()

    def of_role(self, role: str) -> list[PredictionRow]:
        return [row for row in self.rows if row.role == role]

    @cached_property
    def content_hash(self) -> str:
        """sha256 of all that is in it, 64 hexadecimal digits."""
        digest = hashlib.sha256(json.dumps(_described(self), sort_keys=True).encode())
        for array in (
            self.images.fold_N,
            self.images.threshold_fold_N,
            *(row.scores_NC for row in self.rows),
            *(row.rule.thresholds_C for row in self.rows),
        ):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _no_answer() -> PredictionRow:
    raise LookupError("no row of these predictions is an answer")


def _described(predictions: Predictions) -> dict[str, Any]:
    """All but scores and folds, as JSON."""
    images = predictions.images
    return {
        "format": FORMAT,
        "labels": list(predictions.labels),
        "multiclass": predictions.multiclass,
        "averaged": list(predictions.averaged),
        "facts": dict(predictions.facts),
        "images": [list(images.image), list(images.patient), list(images.study), list(images.split)],
        "rows": [
            {
                "id": row.id,
                "name": row.name,
                "role": row.role,
                "origin": vars(row.origin) | {"params": dict(row.origin.params)},
                "ranks_only": row.ranks_only,
                "constant": row.constant,
                "strategy": row.rule.strategy,
                "thresholds": row.rule.thresholds_C.tolist(),
                "shared": row.rule.shared_C.tolist(),
                "scale": [row.rule.scale.centre, row.rule.scale.width],
                "multiclass": row.rule.multiclass,
            }
            for row in predictions.rows
        ],
    }


def write_predictions(predictions: Predictions) -> bytes:
    """Serialise as an Arrow file; `read_predictions` is the inverse.

    A line per row and image: row, image, patient, study, split, fold, threshold_fold, `score.<label>`
    (float64), `probability.<label>` (float64 in [0, 1], NaN where scores only rank), `decision.<label>`
    (int8, -1 where there is no score).
    What is said once stands in the metadata of the schema, as JSON, with the hash of the content.

    >>> images = PredictedImages(image=("a",), patient=("p",), study=("",), split=("test",),
    ...                          fold_N=np.array([-1]), threshold_fold_N=np.array([-1]))
    >>> row = PredictionRow(id="answer", name="study", role=ANSWER, origin=Origin(note=""),
    ...                     rule=DecisionRule.fixed(1), scores_NC=np.array([[0.5]]))
    >>> table = Predictions(labels=("Edema",), multiclass=False, images=images, rows=(row,))
    >>> write_predictions(table)[:6]
    b'ARROW1'
    """
    import pyarrow as pa

    images, rows = predictions.images, predictions.rows
    described = _described(predictions) | {"sha256": predictions.content_hash}
    described.pop("images")

    def repeated(values: Sequence[str]) -> pa.Array:
        return pa.array(list(values) * len(rows), pa.string()).dictionary_encode()

    columns: dict[str, pa.Array] = {
        "row": pa.array(
            [row.id for row in rows for _ in range(len(images))], pa.string()
        ).dictionary_encode(),
        "image": repeated(images.image),
        "patient": repeated(images.patient),
        "study": repeated(images.study),
        "split": repeated(images.split),
        "fold": pa.array(np.tile(images.fold_N, len(rows)), pa.int64()),
        "threshold_fold": pa.array(np.tile(images.threshold_fold_N, len(rows)), pa.int64()),
    }
    scores = [row.scores_NC for row in rows]
    probs = [
        np.full_like(row.scores_NC, np.nan) if row.ranks_only else row.rule.probabilities(row.scores_NC)
        for row in rows
    ]
    decisions = [_decisions(row) for row in rows]
    for what, values in (("score", scores), ("probability", probs), ("decision", decisions)):
        stacked = np.concatenate(values) if values else np.zeros((0, len(predictions.labels)))
        for c, label in enumerate(predictions.labels):
            columns[f"{what}.{label}"] = pa.array(stacked[:, c])
    table = pa.table(columns).replace_schema_metadata({"radtune": json.dumps(described)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _decisions(row: PredictionRow) -> np.ndarray:
    """int8 (N, C): 1 or 0; -1 in the lines of images without a score."""
    decisions_NC = np.full(row.scores_NC.shape, -1, dtype=np.int8)
    known_N = np.isfinite(row.scores_NC).all(axis=1)
    decisions_NC[known_N] = row.rule.decide(row.scores_NC[known_N])
    return decisions_NC


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        ValueError: the file is no such table, or not the one that was written.

    >>> read_predictions(Path("no.arrow"))
    Traceback (most recent call last):
    ValueError: [Errno 2] Failed to open local file 'no.arrow'. Detail: [errno 2] No such file or directory
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        described = json.loads(table.schema.metadata[b"radtune"])
        if described["format"] != FORMAT:
            raise ValueError(f"format {described['format']} is not {FORMAT}")
        predictions = _assembled(table, described)
        if predictions.content_hash != described["sha256"]:
            raise ValueError("its content is not what was written")
    except (pa.ArrowException, OSError, KeyError, TypeError, IndexError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    return predictions


def _assembled(table: Any, described: Mapping[str, Any]) -> Predictions:
    rows, labels = described["rows"], described["labels"]
    images = table.num_rows // len(rows)
    first = table.slice(0, images)
    shape = (len(rows), images)
    scores_RNC = np.stack(
        [np.asarray(table[f"score.{label}"], dtype=np.float64).reshape(shape) for label in labels], axis=-1
    )
    return Predictions(
        labels=tuple(labels),
        multiclass=described["multiclass"],
        averaged=tuple(described["averaged"]),
        facts=described["facts"],
        images=PredictedImages(
            **{name: tuple(first[name].to_pylist()) for name in ("image", "patient", "study", "split")},
            fold_N=np.asarray(first["fold"], dtype=np.int64),
            threshold_fold_N=np.asarray(first["threshold_fold"], dtype=np.int64),
        ),
        rows=tuple(_row(one, scores_NC) for one, scores_NC in zip(rows, scores_RNC, strict=True)),
    )


def _row(one: Mapping[str, Any], scores_NC: np.ndarray) -> PredictionRow:
    return PredictionRow(
        **{key: one[key] for key in ("id", "name", "role", "ranks_only", "constant")},
        origin=Origin(**one["origin"]),
        rule=DecisionRule(
            strategy=one["strategy"],
            thresholds_C=np.array(one["thresholds"], dtype=np.float64),
            shared_C=np.array(one["shared"], dtype=bool),
            scale=Scale(*one["scale"]),
            multiclass=one["multiclass"],
        ),
        scores_NC=scores_NC,
    )
