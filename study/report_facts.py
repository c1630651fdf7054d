"""What a report says of a study itself, from its folder and its settings."""

from __future__ import annotations

import math

from analysis.images_named import images_named
from analysis.judging.judgement import StudyFacts
from cohort.manifest import Cohort
from scoring.operating_points import OperatingPoint
from scoring.predictions import Predictions
from study.config import StudyConfig
from study.provenance import revision
from study.run_folder import RunFolder
from study.selection import chosen
from trainables.ranking import ranking, trials_frame

SHOWN = 20
"""Configurations of which a report draws how far their score can be trusted."""


def facts_of(config: StudyConfig, run: RunFolder, cohort: Cohort, predictions: Predictions) -> StudyFacts:
    """Of a finished study, whose table of predictions this is."""
    finished, ensemble, analysis = run.records(), run.answer(), config.analysis
    published = [record.number for record in finished.values() if record.preset and record.head]
    rows = chosen(finished, analysis.top, with_answer=predictions.answer.origin.trial is None)
    there = {row.id for row in predictions.rows}  # of other configurations no weights are left
    return StudyFacts(
        name=config.name,
        objective=config.search.objective,
        seed=config.search.seed,
        bootstrap=analysis.bootstrap,
        permutations=analysis.permutations,
        images=analysis.images == "shown",
        looked_at=images_named(analysis.looked_at, cohort),
        operating_points=tuple(map(OperatingPoint.parse, analysis.operating_points)),
        records={row.id: row.record for row in rows if row.id in there},
        published=published[0] if published else None,
        baselines={id: ranking(kept)[0] for id, kept in run.baseline_records().items()},
        nested_objective=ensemble.nested_objective if ensemble else math.nan,
        best_nested_objective=ensemble.best_nested_objective if ensemble else math.nan,
        best=ranking(finished.values())[:SHOWN],
        repeats={one["number"]: one for one in run.repeats()["repeated"]},
        trials=trials_frame(finished.values(), run.mlflow_runs()),
        provenance={"revision": revision()},
    )
