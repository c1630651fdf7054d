"""The answer of a cross-validated study: one head out of many, and what the plain rule would have chosen.

Configurations and plain logistic regressions are weighed against each other on the scores of images that they
were not trained on (`trainables.ensemble`); what comes out is one linear head and is exported as such. Beside
it stands the rule that it has to beat: the configuration that the given validation split would have chosen,
trained on the training split alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from scoring.decision_rule import DecisionRule
from scoring.judging import SHRINKAGE, judge
from scoring.predictions import ANSWER, Origin
from search_spaces.configuration import Configuration
from search_spaces.linear_probe import SPACE
from study.config import StudyConfig
from study.inputs import Inputs
from study.trainable_study import ANSWER_NAME
from trainables.bank_training import training_of
from trainables.baselines import LOGREG, LOGREG_DEEP, TEXT_INFORMED
from trainables.baselines.base import name_of
from trainables.baselines.text_informed import text_informed
from trainables.candidates import Candidate, OutOfFold
from trainables.ensemble import CANDIDATES, Ensemble, select_ensemble
from trainables.linear_probe import train_bank
from trainables.ranking import ranking
from trainables.records import TrialRecord
from vlm.predictor import Predictor


def weighed(
    records: Iterable[TrialRecord],
    kept: Mapping[str, Sequence[TrialRecord]],
    inputs: Inputs,
    config: StudyConfig,
) -> Ensemble:
    """The ensemble of the best configurations, of all plain regressions, and of text and class means.

    Args:
        kept: id of a baseline -> its records.
    """
    plain = {}
    # The ensemble draws its bags by place, so that this order is part of the result.
    for id in (LOGREG_DEEP, LOGREG):
        plain |= {f"{name_of(id)} C={record.params['C']:g}": record for record in kept.get(id, ())}
    if inputs.data.text_CD is not None:
        informed = text_informed(inputs.data, config.search.objective)
        plain |= {f"{name_of(TEXT_INFORMED)} {record.params['strength']:g}": record for record in informed}
    search = config.search
    return select_ensemble(
        ranking(records), plain, inputs.data, objective_name=search.objective, seed=search.seed
    )


def answer_row(ensemble: Ensemble, inputs: Inputs, config: StudyConfig) -> Candidate:
    """The ensemble as the study's answer: its thresholds are those of its own out-of-fold scores."""
    data = inputs.data
    (judged,) = judge(ensemble.held_out_MC[None], data.judged(), [SHRINKAGE])
    predictor = Predictor(
        name=ANSWER_NAME,
        labels=data.labels,
        encoder=inputs.encoder,
        heads=ensemble.heads,
        rule=DecisionRule.fitted(
            judged.strategy,
            judged.thresholds[judged.strategy],
            judged.few_C,
            multiclass=judged.multiclass,
        ),
        precision=data.precision,
        origin=Origin(
            note=ensemble.described,
            study=config.name,
            trainable=config.trainable,
            params={"weights": {member.name: round(member.weight, 4) for member in ensemble.members}},
            objective=ensemble.objective,
        ),
    )
    own = OutOfFold(data.rows_N[data.judged_N()], ensemble.held_out_MC)
    return Candidate(id=ANSWER, role=ANSWER, predictor=predictor, out_of_fold=own)


def chosen_by_split(
    records: Iterable[TrialRecord], inputs: Inputs, config: StudyConfig, deadline: float = math.inf
) -> TrialRecord | None:
    """The best on the given validation split of the study's candidates, trained on the training split alone.

    That is what a study without folds would have chosen, and a little more than that: it may take its pick of
    the best of the cross-validated search.

    Returns:
        its record; None where none completed, or the deadline, a `time.time()`, passed before all were.
    """
    candidates = ranking(records)[:CANDIDATES]
    if not candidates:
        return None
    bank = [
        Configuration(SPACE, record.number, record.params, seed=config.search.seed) for record in candidates
    ]
    trained = train_bank(
        bank,
        inputs.given,
        training=training_of("", config.search.batch_size),
        objective_name=config.search.objective,
        seed=config.search.seed,
        deadline=deadline,
    )
    if len(trained) < len(bank):
        return None
    return next(iter(ranking(trained)), None)
