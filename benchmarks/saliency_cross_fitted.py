"""Where a plain probe looks on every annotated image of a cohort, by heads that have not seen the patient.

    python -m benchmarks.saliency_cross_fitted cohorts/nih phantom-clip

A test split holds few annotated patients; here all count. Patients are dealt into five folds, the plain
logistic regression on the encoder's features (deep ones where it has them) is fitted on four at the strength
that is best by out-of-fold average precision over the labels drawn, and its maps, like the location atlas,
are of the fifth. Zero-shot stands beside it where there is a text tower. Printed are the scores of
`analysis.saliency.scores`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from analysis.number_format import p_text, score
from analysis.saliency.annotated import annotated_pairs
from analysis.saliency.localisation import ATLAS, CEILING, FLOORS, Localisation
from analysis.saliency.looking import Looking
from analysis.saliency.scores import Key, scores
from cohort.manifest import Cohort
from cohort.patients import patient_folds
from trainables.logistic import train_logistic
from trainables.trial_data import ProbeData
from vlm.embeddings import embed
from vlm.encoders import load_encoder
from vlm.encoders.base import Encoder
from vlm.feature_kinds import DEEP, PROJECTED, base_kind
from vlm.linear_head import LinearHead
from vlm.predictor import DecisionRule, Origin, Predictor
from vlm.prompts import Wording, text_prototypes
from vlm.saliency import OF_ATTENTION
from vlm.saliency.layers import transformer_blocks
from vlm.saliency.target import LabelLogits

FOLDS, SEED, SHIFTS = 5, 0, 3


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
    """A head a fold, trained on the others; the strength, and the out-of-fold macro average precision."""
    chosen = train_logistic(data, objective_name="macro_ap", kind=kind).chosen
    strength, heads = chosen.params["C"], []
    for fold in tqdm(range(FOLDS), desc="regressions", disable=None, leave=False):
        own_N = data.fold_N == fold
        thresholds_N = np.where(own_N, data.patients_N % 2, -1)  # needed by the judge, not by the head
        alone = replace(data, fold_N=np.where(own_N, 0, -1), threshold_fold_N=thresholds_N)
        (record,) = train_logistic(alone, objective_name="macro_ap", kind=kind, strengths=(strength,)).records
        heads.append(record.head)
    return heads, strength, chosen.objective


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cohort", help="an annotated cohort folder")
    parser.add_argument("encoders", nargs="+", metavar="ENCODER")
    parser.add_argument("--cache", default="cache")
    arguments = parser.parse_args()
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
        _report(_maps(cohort, pairs, fold_N, settings), pairs, cohort)


def _maps(cohort: Cohort, pairs: list, fold_N: np.ndarray, settings: dict[str, list[Predictor]]):
    """(setting, method) -> a map a pair, each of the fold that its image lies in."""
    looking, found = Looking(cohort=cohort), {}
    for fold in tqdm(range(FOLDS), desc="maps", disable=None, leave=False):
        places = [place for place, pair in enumerate(pairs) if fold_N[pair.row] == fold]
        if not places:
            continue
        localisation = Localisation(
            looking=looking,
            encoder=settings["probe"][fold].encoder,
            pairs=[pairs[place] for place in places],
            development=[pair for pair in pairs if fold_N[pair.row] != fold],
            seed=SEED,
        )
        probe = settings["probe"][fold]
        maps: dict[Key, list[np.ndarray]] = {
            (floor, ""): drawn for floor, drawn in localisation.floors(probe).items()
        }
        attended = transformer_blocks(LabelLogits(probe).visual) is not None
        for setting, predictors in settings.items():
            for method in ("layercam", "gradcam", *(OF_ATTENTION if attended else ())):
                maps[setting, method] = localisation.maps(predictors[fold], method)
        fine = localisation.maps(probe, "layercam", SHIFTS)
        maps["probe", "layercam, 3 x 3"] = fine
        maps["probe", "layercam x atlas"] = localisation.with_atlas(fine)
        for key, drawn in maps.items():
            found.setdefault(key, [None] * len(pairs))
            for place, map_HW in zip(places, drawn, strict=True):
                found[key][place] = map_HW
    return found


def _report(maps: dict[Key, list[np.ndarray]], pairs: list, cohort: Cohort) -> None:
    labels = [label for label in cohort.labels if any(pair.label == label for pair in pairs)]
    family = [key for key in maps if key[0] not in (*FLOORS, CEILING) and key[1].startswith("layercam")]
    table = scores(pairs, labels, maps, SEED, family=family)
    averages = table[table["label"] == ""].set_index(["setting", "method", "metric"])
    print(f"{'maps of':<28}{'hit rate':>22}{'mIoU':>8}{'energy':>8}{'hits - atlas':>34}")
    for key in maps:
        hit, miou, inside = (averages.loc[(*key, one)] for one in ("hit_rate", "miou", "energy_inside"))
        line = f"{' '.join(key):<28}{hit['value']:>8.3f} ({score(hit['low'], 2)} to {score(hit['high'], 2)})"
        line += f"{miou['value']:>8.3f}{inside['value']:>8.3f}"
        if (*key, "above_atlas") in averages.index and key[0] != ATLAS:
            above = averages.loc[(*key, "above_atlas")]
            tested = f", Holm {p_text(above['p_holm'])}" if np.isfinite(above["p_holm"]) else ""
            line += f"{above['value']:>+10.3f} ({above['low']:+.2f} to {above['high']:+.2f}){tested}"
        print(line)


if __name__ == "__main__":
    main()
