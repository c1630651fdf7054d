"""Where a plain probe looks on every annotated image of a cohort, by heads that have not seen the patient.

    python -m benchmarks.saliency_cross_fitted cohorts/nih phantom-clip

A test split holds few annotated patients; here all count. Patients are split into five folds, the plain
logistic regression on the encoder's features (deep ones where it has them) is fitted on four at the strength
that is best by out-of-fold average precision over the labels drawn, and its maps, like the location atlas,
are of the fifth. Zero-shot stands beside it where there is a text tower. Printed are the scores of
`analysis.inside.saliency.scores`, and of map x atlas the report's control: the maps of other patients with
the label in the place of a patient's own, each of a head that has not seen the patient whose map it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from analysis.inside.saliency.annotated import Pair, annotated_pairs
from analysis.inside.saliency.localisation import BASELINES, CEILING, Localisation
from analysis.inside.saliency.looking import Looking, Maps, SquareMaps
from analysis.inside.saliency.scores import ABOVE_ATLAS, ABOVE_OTHERS, OTHERS, Key, scores
from analysis.inside.saliency.tables import averaged
from analysis.number_format import p_text, score
from cohort.manifest import Cohort
from cohort.patients import patient_folds
from scoring.decision_rule import DecisionRule
from scoring.intervals import MIN_PATIENTS
from scoring.permuted_matches import Matches
from scoring.predictions import Origin
from trainables.baselines.base import chosen
from trainables.baselines.logistic import train_logistic
from trainables.trial_data import ProbeData
from vlm.embeddings import embed
from vlm.encoders import load_encoder
from vlm.encoders.base import Encoder
from vlm.feature_kinds import DEEP, PROJECTED, base_kind
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor
from vlm.prompts import Wording, text_prototypes
from vlm.saliency import OF_ATTENTION
from vlm.saliency.target import LabelLogits
from vlm.towers.tokens import TokenTower

FOLDS, SEED, SHIFTS = 5, 0, 3
FINE: Key = ("probe", f"layercam, {SHIFTS} x {SHIFTS}")
WITH_ATLAS: Key = ("probe", "layercam x atlas")


def predictor_of(name: str, encoder: Encoder, labels: tuple[str, ...], head: LinearHead) -> Predictor:
    return Predictor(
        name=name,
        labels=labels,
        encoder=encoder,
        heads=(head,),
        ranks_only=True,
        rule=DecisionRule.fixed(len(labels)),
        origin=Origin(note=""),
    )


def cross_fitted_heads(data: ProbeData, kind: str) -> tuple[list[LinearHead], float, float]:
    """One head per fold, trained on the others; the strength, and the out-of-fold macro average precision."""
    best = chosen(train_logistic(data, objective_name="macro_ap", kind=kind))
    strength, heads = best.params["C"], []
    for fold in tqdm(range(FOLDS), desc="regressions", disable=None, leave=False):
        own_N = data.fold_N == fold
        thresholds_N = np.where(own_N, data.patients_N % 2, -1)  # needed by the judge, not by the head
        own_NC = data.targets_NC[own_N]
        judged_C = (own_NC == 1).any(axis=0) & (own_NC == 0).any(axis=0)
        alone = replace(
            data,
            fold_N=np.where(own_N, 0, -1),
            threshold_fold_N=thresholds_N,
            objective_labels_C=data.objective_labels_C & judged_C,
        )
        (record,) = train_logistic(alone, objective_name="macro_ap", kind=kind, strengths=(strength,))
        heads.append(record.head)
    return heads, strength, best.objective


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cohort", help="an annotated cohort folder")
    parser.add_argument("encoders", nargs="+", metavar="ENCODER")
    parser.add_argument("--cache", default="cache")
    arguments = parser.parse_args(argv)
    cohort = Cohort.open(arguments.cohort)
    rows_N = np.arange(len(cohort.images()))
    pairs = annotated_pairs(cohort, rows_N)
    targets_NC = cohort.targets_NC()
    fold_N = patient_folds(targets_NC, cohort.patients_N(), FOLDS, SEED)
    drawn_C = np.array([label in {pair.label for pair in pairs} for label in cohort.labels])
    images, patients = {pair.row for pair in pairs}, {pair.patient for pair in pairs}
    print(f"{len(pairs)} regions of a label on {len(images)} images of {len(patients)} patients")
    for name in arguments.encoders:
        encoder = load_encoder(name, features=None)
        embeddings = embed(cohort, encoder, cache=arguments.cache)
        data = ProbeData(
            rows_N=rows_N,
            targets_NC=targets_NC,
            patients_N=cohort.patients_N(),
            fold_N=fold_N,
            threshold_fold_N=fold_N,
            labels=cohort.labels,
            objective_labels_C=drawn_C,
            features_ND=embeddings.features_ND,
            kinds=encoder.kinds,
            precision=embeddings.precision,
        )
        kind = DEEP if DEEP in encoder.kinds else base_kind(encoder.kinds).name
        heads, strength, value = cross_fitted_heads(data, kind)
        print(f"\n{name}: regression on {kind}, C {strength:g}, out-of-fold macro AP {value:.3f}")
        settings = {"probe": [predictor_of("probe", encoder, cohort.labels, head) for head in heads]}
        if not encoder.text_refusal:
            present_CD, _ = text_prototypes(encoder, cohort.labels, "name", Wording.of(cohort))
            text = LinearHead.plain(present_CD.T, first=encoder.kinds[PROJECTED].first)
            settings["zero-shot"] = [predictor_of("zero-shot", encoder, cohort.labels, text)] * FOLDS
        _report(*_maps(cohort, pairs, fold_N, settings), pairs, cohort)


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossFitted(Localisation):
    """The pairs of all folds, each beside the atlas of the patients outside its own."""

    folds: Mapping[int, Localisation]
    fold_P: np.ndarray

    def atlas_of(self, place: int, height: int, width: int) -> np.ndarray:
        return self.folds[self.fold_P[place]].atlas(self.pairs[place].label, height, width)


def _maps(
    cohort: Cohort, pairs: Sequence[Pair], fold_N: np.ndarray, settings: Mapping[str, Sequence[Predictor]]
) -> tuple[dict[Key, Sequence[np.ndarray]], dict[str, Matches]]:
    """(setting, method) -> a map a pair, each of the fold that its image lies in; and label -> what the
    probe's finer maps times the atlas hit over each image in the place of its own."""
    fold_P = fold_N[[pair.row for pair in pairs]]
    folds: dict[int, Localisation] = {}
    drawn: dict[int, dict[Key, Sequence[np.ndarray]]] = {}
    encoder, looking = settings["probe"][0].encoder, Looking(cohort=cohort)
    for fold in tqdm(np.unique(fold_P).tolist(), desc="maps", disable=None, leave=False):
        folds[fold] = Localisation(
            looking=looking,
            encoder=encoder,
            pairs=[pairs[place] for place in np.flatnonzero(fold_P == fold)],
            development=[pair for pair in pairs if fold_N[pair.row] != fold],
            seed=SEED,
        )
        own = {name: predictors[fold] for name, predictors in settings.items()}
        drawn[fold] = _of_fold(folds[fold], own)
    where = {place: n for fold in folds for n, place in enumerate(np.flatnonzero(fold_P == fold))}

    def joined(key: Key) -> Maps:
        return Maps(len(pairs), lambda place: drawn[fold_P[place]][key][where[place]])

    places = range(len(pairs))
    fine = SquareMaps(
        cells=[drawn[fold_P[place]][FINE].cells[where[place]] for place in places],
        sizes=[drawn[fold_P[place]][FINE].sizes[where[place]] for place in places],
        geometry=encoder.geometry,
    )
    together = CrossFitted(
        looking=looking, encoder=encoder, pairs=pairs, development=[], seed=SEED, folds=folds, fold_P=fold_P
    )
    maps: dict[Key, Sequence[np.ndarray]] = {key: joined(key) for key in next(iter(drawn.values()))}
    return maps | {WITH_ATLAS: together.with_atlas(fine)}, together.fits_of_others(fine)


def _of_fold(
    localisation: Localisation, settings: Mapping[str, Predictor]
) -> dict[Key, Sequence[np.ndarray]]:
    """Floors, each setting's maps, and the probe's finer ones."""
    probe = settings["probe"]
    maps: dict[Key, Sequence[np.ndarray]] = {
        (baseline, ""): drawn for baseline, drawn in localisation.baselines(probe).items()
    }
    attended = isinstance(LabelLogits(probe).tower, TokenTower)
    for setting, predictor in settings.items():
        for method in ("layercam", "gradcam", *(OF_ATTENTION if attended else ())):
            maps[setting, method] = localisation.maps(predictor, method)
    maps[FINE] = localisation.maps(probe, "layercam", SHIFTS)
    return maps


def _report(
    maps: Mapping[Key, Sequence[np.ndarray]],
    fits: Mapping[str, Matches],
    pairs: Sequence[Pair],
    cohort: Cohort,
) -> None:
    labels = [label for label in cohort.labels if any(pair.label == label for pair in pairs)]
    family = [key for key in maps if key[0] not in (*BASELINES, CEILING) and key[1].startswith("layercam")]
    table = scores(pairs, labels, maps, SEED, family=family, fits={WITH_ATLAS: fits})
    if not averaged(table):
        print(f"no label has regions of {MIN_PATIENTS} patients: nothing is averaged")
        return
    averages = table[table["label"] == ""].set_index(["setting", "method", "metric"])
    print(f"{'maps of':<28}{'hit rate':>22}{'mIoU':>8}{'energy':>8}{'hits - atlas':>34}")
    for key in maps:
        hit, miou, inside = (averages.loc[(*key, one)] for one in ("hit_rate", "miou", "energy_inside"))
        line = f"{' '.join(key):<28}{hit['value']:>8.3f} ({score(hit['low'], 2)} to {score(hit['high'], 2)})"
        line += f"{miou['value']:>8.3f}{inside['value']:>8.3f}"
        if (*key, ABOVE_ATLAS) in averages.index:
            line += f"{_tested(averages.loc[(*key, ABOVE_ATLAS)])}"
        print(line)
    if (*WITH_ATLAS, ABOVE_OTHERS) in averages.index:
        others, above = (averages.loc[(*WITH_ATLAS, one)] for one in (OTHERS, ABOVE_OTHERS))
        print(
            f"{' '.join(WITH_ATLAS)}, with the maps of other patients with the label in the place of a "
            f"patient's own: {others['value']:.3f}; own - others:{_tested(above)}"
        )


def _tested(row: pd.Series) -> str:
    tested = f", Holm {p_text(row['p_holm'])}" if np.isfinite(row["p_holm"]) else ""
    return f"{row['value']:>+10.3f} ({row['low']:+.2f} to {row['high']:+.2f}){tested}"


if __name__ == "__main__":
    main()
