"""A study as a Python object: what the command line does, for notebooks and scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cohort.errors import InputError
from study.config import FineTuneSettings, StudyConfig, load_config, validated
from study.lock import is_locked
from study.standing import ranking
from trainables.records import RunFolder, TrialRecord, trials_frame

if TYPE_CHECKING:
    from analysis.scores import AnalysisResult
    from analysis.settings import FinishedTrial
    from cohort.manifest import Cohort
    from vlm.embeddings import Embeddings
    from vlm.encoders import Encoder


class Study:
    """One study: run it, look at it, analyse it, export from it.

    >>> study = Study.from_yaml("configs/sample_probe.yaml")          # doctest: +SKIP
    >>> study.run().analyze().headline                                # doctest: +SKIP
    >>> study.export("exports/sample")                                # doctest: +SKIP
    """

    def __init__(self, config: StudyConfig) -> None:
        """`config`'s relative folders and SQLite path are taken from the current working directory."""
        self.config = config.resolved(Path.cwd())
        self.folder = RunFolder(self.config.run_folder)

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = ()) -> Study:
        """Read a study file; `overrides` are `a.b=value` assignments. InputError as `load_config`."""
        return cls(load_config(path, tuple(overrides)))

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Study:
        """A study from a mapping with the study file's keys. InputError as `validated`."""
        return cls(validated(dict(settings)))

    @classmethod
    def open(cls, run: str | Path) -> Study:
        """A study from its run folder, wherever that lies now; InputError where the folder holds none."""
        folder = RunFolder(Path(run).absolute())
        if not folder.study_file.exists():
            raise InputError(
                f"{run}: no study there (study.yaml is missing); `radtune run STUDY.yaml` makes one"
            )
        study = cls(load_config(folder.study_file))
        study.folder = folder
        return study

    def run(self, *, resume: bool = False, echo: Callable[[str], None] = print) -> Study:
        """Run the study, or with `resume` take it up where it stopped. InputError as `run_study`."""
        from study.driver import run_study

        run_study(self.config, resume=resume, echo=echo)
        return self

    @property
    def records(self) -> dict[int, TrialRecord]:
        """Every finished configuration by number, with its trained head."""
        return self.folder.records()

    @property
    def trials(self) -> pd.DataFrame:
        """One row a finished configuration, as in `trials.parquet`."""
        if self.folder.trials_file.exists():
            return pd.read_parquet(self.folder.trials_file)
        return trials_frame(self.records.values(), {})

    @property
    def best(self) -> TrialRecord:
        """The best completed configuration on validation; InputError where none has completed."""
        ranked = ranking(self.records.values())
        if not ranked:
            raise InputError(f"{self.folder.path}: no configuration has completed; see `radtune show`")
        return ranked[0]

    def analyze(self) -> AnalysisResult:
        """Open the test split: score floors, zero-shot and the best configurations, write the report.

        What is scored was chosen on validation. MLflow's parent run records every opening of the test split.

        Raises:
            InputError: the study still runs, nothing has completed, or the cohort or encoder has changed.
        """
        from analysis.scores import analyze
        from study.provenance import revision
        from study.tracking import record_opening
        from vlm.embeddings import embed
        from vlm.encoders import load_encoder

        if is_locked(self.folder.lock_file):
            raise InputError(f"{self.folder.path}: the study still runs; analyse it when it has finished")
        best = self.best
        inputs = self._inputs()
        trials = [chosen.trial for chosen in self._chosen(inputs).values()]
        pixels = embed(inputs.cohort, load_encoder("pixels"), cache=self.config.cache)
        identity = json.loads(self.folder.inputs_file.read_text())
        result = analyze(
            cohort=inputs.cohort,
            encoder=inputs.encoder,
            features_ND=inputs.embeddings.features_ND,
            pixel_features_ND=pixels.features_ND,
            trials=trials,
            beside=self._beside(inputs.cohort) if self.config.analysis.beside else None,
            trials_table=self.trials,
            objective=self.config.search.objective,
            objective_labels_C=np.isin(inputs.cohort.labels, identity["objective_labels"]),
            folder=self.folder.analysis,
            bootstrap=self.config.analysis.bootstrap,
            seed=self.config.search.seed,
            title=self.config.name,
            metadata={"revision": revision()},
        )
        averages = result.scores[(result.scores["label"] == "") & (result.scores["setting"] == "best-1")]
        when = datetime.now(UTC).isoformat(timespec="seconds")
        record_opening(
            self.config.tracking.uri,
            self.folder.path,
            f"{when} best #{best.number}",
            {f"test.{row.metric}": row.value for row in averages.itertuples()},
            sorted(path for path in self.folder.analysis.iterdir() if path.is_file()),
        )
        return result

    def export(self, folder: str | Path, *, trial: int | None = None, with_encoder: bool = False) -> Path:
        """Write a bundle that `radtune predict` reads on another machine.

        Args:
            folder: the bundle's folder; an earlier bundle there is replaced.
            trial: the configuration's number; by default the best on validation, never the best on test.
            with_encoder: put the encoder's weights in, so that the bundle needs no hub. A fine-tuned tower
                is always put in.

        Raises:
            InputError: no such configuration, one without a head, or a folder that holds something else.
        """
        from analysis.model_card import model_card
        from analysis.scores import read_tables
        from study.provenance import revision
        from vlm.bundle import save_bundle

        inputs = self._inputs()
        exported = self._exported(trial, inputs)
        finished, encoder, cohort = exported.trial, exported.encoder, inputs.cohort
        scores, comparisons = read_tables(self.folder.analysis, finished) or (None, None)
        card = model_card(
            title=self.config.name,
            cohort=cohort,
            encoder=encoder,
            trial=finished,
            objective=self.config.search.objective,
            scores=scores,
            comparisons=comparisons,
            metadata={"revision": revision()},
        )
        return save_bundle(
            folder,
            head=finished.head,
            thresholds_C=finished.thresholds_C,
            threshold_strategy=finished.strategy,
            fell_back=list(np.array(cohort.labels)[finished.shared_C]),
            labels=cohort.labels,
            policy=cohort.policy,
            encoder=encoder,
            precision=exported.precision,
            cohort_hash=cohort.content_hash,
            card=card,
            with_encoder=with_encoder or encoder is not inputs.encoder,
            origin={"study": self.config.name, "trial": finished.number, "params": finished.params},
        )

    # What was chosen on validation -------------------------------------------------------------------------

    def _inputs(self) -> _Inputs:
        """Cohort, encoder and frozen features, as they were when the study ran."""
        from study.probe_study import embedded

        cohort, encoder, embeddings = embedded(self.config)
        identity = json.loads(self.folder.inputs_file.read_text())
        now = {"cohort_hash": cohort.content_hash, "encoder_fingerprint": encoder.fingerprint}
        for key, value in now.items():
            if identity[key] != value:
                raise InputError(
                    f"{self.folder.path}: {key} is no longer what the study ran with "
                    f"({identity[key][:12]} then, {value[:12]} now); put the former back, or run a new study"
                )
        return _Inputs(cohort, encoder, embeddings)

    def _chosen(self, inputs: _Inputs) -> dict[str, _Chosen]:
        """The paper's configuration and the best on validation, by their names in the tables."""
        records = self.records
        top = self.config.analysis.top
        if self.config.trainable == "fine_tune":  # of the others no weights are left
            top = min(top, (self.config.fine_tune or FineTuneSettings()).keep)
        ranked = ranking(records.values())[:top]
        named = {f"best-{place}": record for place, record in enumerate(ranked, start=1)}
        if 0 in records and records[0].head is not None:
            named = {"paper": records[0]} | named
        repeated = {}
        if self.folder.finalists_file.exists():
            found = json.loads(self.folder.finalists_file.read_text())["repeated"]
            repeated = {one["number"]: {"seeds": one["seeds"], "splits": one["splits"]} for one in found}
        return {
            name: self._finished(name, record, inputs, **repeated.get(record.number, {}))
            for name, record in named.items()
        }

    def _finished(self, name: str, record: TrialRecord, inputs: _Inputs, **repeats: list[float]) -> _Chosen:
        from analysis.settings import FinishedTrial
        from vlm.embeddings import embed

        encoder, precision, features_ND = inputs.encoder, inputs.embeddings.precision, None
        if self.config.trainable == "fine_tune":
            encoder = self._tuned(record, inputs.encoder)
            asked = (self.config.fine_tune or FineTuneSettings()).precision
            embeddings = embed(
                inputs.cohort,
                encoder,
                cache=self.config.cache,
                precision="auto" if asked == "fp16" else asked,  # as its head saw them in training
            )
            precision, features_ND = embeddings.precision, embeddings.features_ND
        strategy = "fixed" if name == "paper" else record.strategy  # the paper's probabilities are cut at 0.5
        trial = FinishedTrial(
            name=name,
            number=record.number,
            head=record.head,
            strategy=strategy,
            thresholds_C=np.array(record.thresholds[strategy]),
            few_C=np.array(record.few),
            objective=record.objective,
            params=record.params,
            curve=record.curve,
            features_ND=features_ND,
            **repeats,
        )
        return _Chosen(trial, encoder, precision)

    def _tuned(self, record: TrialRecord, encoder: Encoder) -> Encoder:
        """The encoder with a trial's fine-tuned tower."""
        from trainables.checkpoints import CheckpointFolder, CorruptCheckpoint
        from trainables.fine_tune import load_best

        number = record.number
        try:
            tuned, head = load_best(CheckpointFolder(self.folder.checkpoints, number).best, encoder)
        except CorruptCheckpoint as error:
            raise InputError(
                f"{self.folder.path}: the weights of trial {number} are not there or damaged ({error}); only "
                "those of the best are kept, see fine_tune.keep"
            ) from None
        recorded = record.head.tensors()
        if any(not np.array_equal(array, recorded[name]) for name, array in head.tensors().items()):
            raise InputError(
                f"{self.folder.path}: the weights of trial {number} are of another epoch than its record; "
                "run the study again under another name"
            )
        return tuned

    def _beside(self, cohort: Cohort) -> FinishedTrial:
        """The best configuration of the study that stands in the same tables, under that study's name."""
        other = Study.open(self.config.analysis.beside)
        if is_locked(other.folder.lock_file):
            raise InputError(f"analysis.beside: {other.folder.path} still runs; analyse when it has finished")
        best = other.best
        inputs = other._inputs()
        if inputs.cohort.content_hash != cohort.content_hash:
            raise InputError(
                f"analysis.beside: {other.folder.path} ran on another cohort; one table needs one cohort"
            )
        trial = other._finished("best-1", best, inputs).trial
        if trial.features_ND is None:
            trial = replace(trial, features_ND=inputs.embeddings.features_ND)
        return replace(trial, name=other.config.name)

    def _exported(self, number: int | None, inputs: _Inputs) -> _Chosen:
        """The configuration to export: a finalist under its name in the tables, or any other."""
        if number is None:
            number = self.best.number
        chosen = self._chosen(inputs)
        for name, one in chosen.items():
            if one.trial.number == number and name != "paper":
                return one
        record = self.records.get(number)
        if record is None or record.head is None:
            raise InputError(
                f"{self.folder.path}: trial {number} has no trained head; `radtune show` lists those that do"
            )
        return self._finished("paper" if number == 0 else f"trial-{number}", record, inputs)


@dataclass(frozen=True, eq=False)
class _Inputs:
    cohort: Cohort
    encoder: Encoder
    embeddings: Embeddings


@dataclass(frozen=True, eq=False)
class _Chosen:
    """A configuration as the analysis takes it, the encoder under its head, and in which precision."""

    trial: FinishedTrial
    encoder: Encoder
    precision: str
