"""Fine-tuning against the linear probe of the same tower, on test, paired, over several seeds.

    python -m benchmarks.fine_tune_against_probe cohorts/nih --out comparison

For each encoder and seed a linear-probe study and a fine-tuning study are run and analysed side by side, as
`radtune run` and `radtune analyze` do; studies that are there already are taken up where they ended. Printed
are the test scores of all seeds beside the baselines, and the difference of the two studies' best: of each
seed as its own `comparisons.csv` has it, and of the mean over seeds, where a draw of the permutation test
swaps a patient's predictions in all seeds at once. OUT/learning_curves.png shows every best and every paper's
configuration.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.figures import STYLE
from analysis.judging.evaluation_set import open_test_split
from analysis.row_styles import BEST, COLOURS, PUBLISHED_COLOUR
from cohort.ledger import Ledger
from cohort.manifest import Cohort
from cohort.patients import fewer_side_patients
from scoring.intervals import average_interval
from scoring.objectives import OBJECTIVES
from scoring.paired_tests import paired_permutation, permutation_p
from scoring.resampling import Ranking, patient_weights, weighted_rankings
from study import Study
from tests.vlm.miniature_biomedclip import build_miniature_biomedclip
from trainables.baselines import LOGREG, PIXELS, PREVALENCE, ZERO_SHOT
from trainables.baselines.base import name_of
from trainables.records import TrialRecord

MINIATURE = "miniature-biomedclip"
COMPARED = ("macro_auroc", "macro_ap")


def studies(encoder: str, seed: int, options: argparse.Namespace) -> tuple[Study, Study]:
    """The probe study and the fine-tuning study of one encoder and seed, finished and analysed together."""
    name = f"local-dir:{options.out / MINIATURE}" if encoder == MINIATURE else encoder
    common = {
        "cohort": str(options.cohort),
        "encoder": name,
        "storage": str(options.out / "runs"),
        "cache": str(options.out / "cache"),
        "tracking": {"uri": f"sqlite:///{options.out}/mlflow.db"},
    }
    probe = common | {
        "name": f"probe-{encoder}-{seed}",
        "search": {"configurations": options.probes, "seed": seed, "selection": "split"},
    }
    tuned = common | {
        "name": f"tuned-{encoder}-{seed}",
        "trainable": "fine_tune",
        "search": {"configurations": options.configurations, "seed": seed},
        "analysis": {"compare_with": str(options.out / "runs" / probe["name"])},
    }
    pair = tuple(Study.from_dict(settings) for settings in (probe, tuned))
    for study in pair:
        study.run(resume=study.folder.study_file.exists())
    if not is_analysed(*pair):
        pair[1].analyze()
    return pair


def is_analysed(probe: Study, tuned: Study) -> bool:
    """Whether the fine-tuning study's analysis speaks of the best of both as they are now."""
    path = tuned.folder.analysis / "settings.csv"
    if not path.exists():
        return False
    scored = pd.read_csv(path).set_index("setting")["trial"]
    return (
        scored.get("best-1") == tuned.best.number
        and scored.get(f"study {probe.config.name}") == probe.best.number
    )


def test_scores(pairs: Sequence[tuple[Study, Study]]) -> pd.DataFrame:
    """setting x (metric, seed), of the baselines and of both studies."""
    columns = {}
    for seed, (probe, tuned) in enumerate(pairs):
        table = pd.read_csv(tuned.folder.analysis / "test_scores.csv")
        table = table[table["label"].isna()].set_index(["metric", "setting"])["value"]
        rows = {
            **{name_of(id): name_of(id) for id in (PREVALENCE, ZERO_SHOT, PIXELS, LOGREG)},
            f"study {probe.config.name}": "linear probe",
            "paper": "fine-tuned as the paper does",
            "best-1": "fine-tuned",
        }
        for metric in COMPARED:
            columns[metric, seed] = table[metric].reindex(rows).rename(rows)
    return pd.DataFrame(columns)


def _published(study: Study) -> TrialRecord:
    return next(record for record in study.records.values() if record.preset)


def mean_difference(pairs: Sequence[tuple[Study, Study]], draws: int) -> dict[str, tuple[float, ...]]:
    """metric -> fine-tuned minus probe, mean over seeds: difference, low, high, p."""
    tuned = pairs[0][1]
    cohort = Cohort.open(tuned.config.cohort)
    objective_labels_C = np.isin(cohort.labels, tuned.folder.identity()["objective_labels"])
    ledger = Ledger(cohort, Path(tuned.config.cache))
    split = open_test_split(cohort, objective_labels_C, ledger, "mean difference over seeds")
    averaged = np.flatnonzero(split.averaged_C)
    weights_PB = patient_weights(split.patients, draws, 0)
    observed, null, deviation = ({name: [] for name in Ranking._fields} for _ in range(3))
    for probe, tuned in pairs:
        table = pd.read_parquet(tuned.folder.analysis / "test_predictions.parquet").set_index("setting")
        columns = [f"probability.{cohort.labels[c]}" for c in averaged]
        first, second = (
            table.loc[name, columns].to_numpy() for name in ("best-1", f"study {probe.config.name}")
        )
        targets_NC = split.targets_NC[:, averaged]
        # The same seed draws the same swaps, so that the nulls of the seeds can be averaged draw by draw.
        tested = paired_permutation(targets_NC, first, second, split.patients_N, draws=draws, seed=0)
        mine, theirs = (
            weighted_rankings(targets_NC, model, split.patients_N, weights_PB) for model in (first, second)
        )
        for place, name in enumerate(Ranking._fields):
            observed[name].append(tested[name][0])
            null[name].append(tested[name][1].mean(axis=0))
            deviation[name].append(mine[place] - theirs[place])
    result = {}
    for metric, name in zip(COMPARED, ("auroc", "average_precision"), strict=True):
        difference_C = np.mean(observed[name], axis=0)
        low, high = average_interval(
            difference_C,
            np.mean(deviation[name], axis=0),
            split.fewer_patients_C[averaged],
            fewer_side_patients(split.targets_NC[:, averaged], split.patients_N),
            bounds=None,
        )
        p = permutation_p(float(difference_C.mean()), np.mean(null[name], axis=0))
        result[metric] = (float(difference_C.mean()), low, high, p)
    return result


def draw_learning_curves(by_encoder: dict[str, list[tuple[Study, Study]]], path: Path) -> None:
    """Losses and objective of the best and the paper's configurations by epoch, one row per encoder."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 2.7 * len(by_encoder)), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(by_encoder), 2, squeeze=False)
        for (encoder, pairs), (left, right) in zip(by_encoder.items(), grid, strict=True):
            for place, (probe, tuned) in enumerate(pairs):
                objective = tuned.config.search.objective
                drawn = {
                    "the paper's": (_published(tuned), PUBLISHED_COLOUR),
                    "best on validation": (tuned.best, BEST),
                }
                for label, (record, colour) in drawn.items():
                    curve = pd.DataFrame(record.curve)
                    first = label if place == 0 else None
                    left.plot(curve["epoch"], curve["train_loss"], color=colour, lw=0.9, ls=(0, (2, 2)))
                    left.plot(curve["epoch"], curve["val_loss"], color=colour, lw=1.4)
                    right.plot(
                        curve["epoch"],
                        curve["objective"],
                        color=colour,
                        lw=1.4,
                        marker="o",
                        ms=3,
                        label=first,
                    )
                right.axhline(
                    probe.best.objective,
                    color=COLOURS[LOGREG],
                    lw=1,
                    ls=(0, (5, 2)),
                    label="best linear probe" if place == 0 else None,
                )
            left.set_title(f"{encoder}: loss (training dashed)")
            right.set_title(f"{OBJECTIVES[objective].title}, validation")
            for axes in (left, right):
                axes.set_xlabel("epoch")
                axes.grid(axis="y")
                axes.set_axisbelow(True)
            right.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), title=f"{len(pairs)} seeds each")
        figure.savefig(path, dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cohort", type=Path, help="a cohort folder with train, val and test")
    parser.add_argument("--encoders", default=f"phantom-clip,{MINIATURE}", help="default: %(default)s")
    parser.add_argument("--configurations", type=int, default=8, help="of fine-tuning (default: %(default)s)")
    parser.add_argument("--probes", type=int, default=128, help="of the probe (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="folder for studies, tables and picture")
    options = parser.parse_args(arguments)
    options.cohort, options.out = options.cohort.absolute(), options.out.absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    encoders = options.encoders.split(",")
    if MINIATURE in encoders and not (options.out / MINIATURE).exists():
        build_miniature_biomedclip(options.out / MINIATURE)

    by_encoder: dict[str, list[tuple[Study, Study]]] = {}
    for encoder in encoders:
        started = time.monotonic()
        by_encoder[encoder] = [studies(encoder, seed, options) for seed in range(options.seeds)]
        print(f"{encoder}: {options.seeds} seeds in {time.monotonic() - started:.0f} s", flush=True)
    for encoder, pairs in by_encoder.items():
        scores = test_scores(pairs)
        scores.to_csv(options.out / f"{encoder}.csv", float_format="%.6g")
        print(f"\n{encoder}, on test, seeds {', '.join(map(str, range(options.seeds)))}")
        print(scores.to_string(float_format=lambda value: f"{value:.3f}"))
        for seed, (_, tuned) in enumerate(pairs):
            tests = pd.read_csv(tuned.folder.analysis / "comparisons.csv")
            for row in tests[tests["family"] == "average"].itertuples():
                print(
                    f"  seed {seed}: macro AP against {row.second:<30}{row.difference:+.3f} "
                    f"({row.low:+.3f} to {row.high:+.3f}), Holm p = {row.p_holm:.3f}"
                )
        for metric, (difference, low, high, p) in mean_difference(pairs, draws=10_000).items():
            print(
                f"  mean over seeds: {metric} against the probe {difference:+.3f} "
                f"({low:+.3f} to {high:+.3f}), p = {p:.3f}"
            )
    draw_learning_curves(by_encoder, options.out / "learning_curves.png")
    print(f"\n{options.out / 'learning_curves.png'}")


if __name__ == "__main__":
    main()
