"""Two small studies, analysed once for the tests of tables, sections, page and model card."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.analyze import write_analysis
from scoring.decision_rule import DecisionRule
from tests.analysis.synthetic import CLASSES, finished_study


@pytest.fixture(scope="package")
def analysed(tmp_path_factory):
    """The made-up study, its judgement, models, analysis folder and result; nothing is masked, so sklearn can
    follow."""
    folder = tmp_path_factory.mktemp("analysis")
    study = finished_study(images=900, masked=0.0, name="a <b>study</b>", bootstrap=1000)
    judgement = study.judgement(folder)
    return SimpleNamespace(
        study=study,
        judgement=judgement,
        models=(models := study.models(judgement)),
        folder=folder,
        result=write_analysis(judgement, folder, models=lambda: models),
    )


@pytest.fixture(scope="package")
def scores(analysed):
    """The made-up study's score table by setting, metric and label."""
    return analysed.result.scores.set_index(["setting", "metric", "label"])


@pytest.fixture(scope="package")
def published_best(analysed):
    """The made-up study's judgement, had the published configuration been the best on validation: its row
    differs from `best-1` in its thresholds alone."""
    judgement = analysed.judgement
    best = judgement.answer
    origin = replace(best.origin, trial=0, note="trial 0, the published configuration")
    best = replace(best, origin=origin)
    paper = replace(judgement.row(judgement.published), rule=DecisionRule.fixed(len(best.rule.thresholds_C)))
    paper = replace(
        paper, val_scores_NC=best.val_scores_NC, test_scores_NC=best.test_scores_NC, origin=origin
    )
    rows = {row.id: row for row in judgement.rows} | {best.id: best, paper.id: paper}
    records = judgement.study.records
    facts = replace(judgement.study, records=records | {best.id: records[paper.id]}, bootstrap=200)
    return replace(judgement, rows=tuple(rows.values()), study=facts)


@pytest.fixture(scope="package")
def uninformed(tmp_path_factory):
    """A study whose only trial is noise, on an encoder without a text tower and images of another kind."""
    folder = tmp_path_factory.mktemp("uninformed")
    study = finished_study(images=600, has_text=False, bootstrap=400)
    best = study.trials[1]
    rng = np.random.default_rng(0)
    weight_DC = rng.normal(size=best.heads[0].weight_DC.shape).astype(np.float32)
    study = replace(
        study,
        trials=[replace(best, heads=(replace(best.heads[0], weight_DC=weight_DC),))],
        cohort=replace(study.cohort, modality="medical image"),
        facts=replace(study.facts, seed=1, records={"trial/41": study.facts.records["trial/41"]}),
    )
    judgement = study.judgement(folder)
    return SimpleNamespace(
        study=study,
        judgement=judgement,
        models=(models := study.models(judgement)),
        folder=folder,
        result=write_analysis(judgement, folder, models=lambda: models),
    )


@pytest.fixture(scope="package")
def of_classes(tmp_path_factory):
    """A study of multiclass labels, one of them with a name of its own."""
    folder = tmp_path_factory.mktemp("of_classes")
    study = finished_study(images=1200, labels=CLASSES, multiclass=True, bootstrap=400)
    study = replace(study, cohort=replace(study.cohort, label_names={"viral": "viral pneumonia"}))
    judgement = study.judgement(folder)
    return SimpleNamespace(
        study=study,
        judgement=judgement,
        models=(models := study.models(judgement)),
        folder=folder,
        result=write_analysis(judgement, folder, models=lambda: models),
    )
