"""A study as a Python object: what the command line does, for notebooks and scripts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cohort.errors import InputError
from cohort.files import check_place_of_folder
from cohort.html_table import html_table
from study.config import StudyConfig
from study.interrupts import held_back
from study.lock import is_locked
from study.ray_snapshot import refuse_snapshot
from study.run_folder import RunFolder
from study.study_file import load_config, load_stored, validated
from trainables.ranking import ranking, trials_frame
from trainables.records import TrialRecord

if TYPE_CHECKING:
    from analysis.analyze import AnalysisResult
    from analysis.inside.models import Models
    from analysis.judging.judgement import Judgement
    from cohort.ledger import Ledger
    from cohort.manifest import Cohort
    from scoring.predictions import Predictions
    from study.inputs import Inputs
    from study.study_rows import StudyRows
    from study.trainable_study import TrainableStudy
    from trainables.candidates import Candidate
    from vlm.predictor import Predictor

NOTEBOOK_ROWS = 8
"""Configurations that a study shows in a notebook, the best first."""


class Study:
    """One study: run it, look at it, analyse it, export from it.

    >>> study = Study.from_yaml("configs/sample_probe.yaml")          # doctest: +SKIP
    >>> study.run().analyze().headline                                # doctest: +SKIP
    >>> study.export("exports/sample")                                # doctest: +SKIP
    """

    def __init__(self, config: StudyConfig, run: Path | None = None) -> None:
        """
        Args:
            config: its relative paths are taken from the current working directory, or where `run` is given
                from the folder that this one was stored in.
            run: the study's folder, where it is not `<storage>/<name>`.
        """
        self._root = Path.cwd() if run is None else config.root_of(run)
        self.config = config.resolved(self._root)
        self.folder = RunFolder(run or self.config.run_folder)

    def __repr__(self) -> str:
        config = self.config
        what = f"{config.trainable} of {config.encoder} on {config.cohort}"
        return f"Study({config.name}: {what}, {self.folder.path})"

    def _repr_html_(self) -> str:
        objective, records = self.config.search.objective, self.records
        title = f"{self!r}: {len(records)} of {self.config.search.configurations} configurations"
        rows = [("#", "preset", f"validation {objective}", "parameters")]
        for record in ranking(records.values())[:NOTEBOOK_ROWS]:
            params = ", ".join(
                f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in record.params.items()
            )
            rows.append((record.number, record.preset, f"{record.objective:.3f}", params))
        return html_table(title, rows)

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = ()) -> Study:
        """Read a study file; `overrides` are `a.b=value` assignments. InputError as `load_config`."""
        return cls(load_config(path, tuple(overrides)))

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Study:
        """A study from a mapping with the study file's keys. InputError as `validated`."""
        return cls(validated(dict(settings)))

    @classmethod
    def from_copy(cls, place: str, overrides: Sequence[str] = ()) -> Study:
        """A study from the copy that a run with `checkpoints` leaves there; it is restored into the study's
        folder, from which `run(resume=True)` goes on.

        Args:
            place: `<checkpoints>/<name>`, a path or a URI.
            overrides: `a.b=value` assignments, `storage=...` say.

        Raises:
            InputError: no copy there, a study of that name in the storage, or as `load_config`.
        """
        from study.study_copy import copied_study_file, restore

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "study.yaml"
            path.write_bytes(copied_study_file(place))
            study = cls(load_stored(path, tuple(overrides)))
        restore(place, study.folder)
        return study

    @classmethod
    def open(cls, run: str | Path, overrides: Sequence[str] = ()) -> Study:
        """A study from its run folder, wherever that lies now.

        Args:
            overrides: `analysis.b=value` assignments, for this object alone; a path is taken from the current
                working directory.

        Raises:
            InputError: the folder holds no study, or an assignment is of another key.
        """
        folder = RunFolder(Path(run).absolute())
        if not folder.study_file.exists():
            raise InputError(
                f"{run}: no study there (study.yaml is missing); `radtune run STUDY.yaml` makes one"
            )
        if strange := next((one for one in overrides if not one.startswith("analysis.")), None):
            raise InputError(
                f"--set {strange}: a study that has run keeps its settings; only those of analysis, such as "
                "analysis.top=5, can be set for an analysis"
            )
        config = load_stored(folder.study_file, tuple(overrides))
        other = config.analysis.compare_with
        if other and any(one.startswith("analysis.compare_with=") for one in overrides):
            analysis = config.analysis.model_copy(update={"compare_with": str(Path(other).absolute())})
            config = config.model_copy(update={"analysis": analysis})
        return cls(config, folder.path)

    def run(self, *, resume: bool = False, echo: Callable[[str], None] = print) -> Study:
        """Run the study, or with `resume` take it up where it stopped. InputError as `run_study`."""
        started = time.monotonic()  # before Ray, Optuna and MLflow are imported, which takes seconds
        check_place_of_folder(self.folder.path)
        check_place_of_folder(self.config.cache)
        with held_back():
            from study.driver import run_study

        refuse_snapshot(self.config)
        stored = self.config.portable(self._root)
        run_study(self.config, self.folder, stored=stored, started=started, resume=resume, echo=echo)
        return self

    @property
    def records(self) -> dict[int, TrialRecord]:
        """Every finished configuration by number, with its trained head."""
        return self.folder.records()

    @property
    def trials(self) -> pd.DataFrame:
        """One row a finished configuration, from the bank files: after a crash `trials.parquet` may lag."""
        return trials_frame(self.records.values(), self.folder.mlflow_runs())

    @property
    def best(self) -> TrialRecord:
        """The best completed configuration on validation; InputError where none has completed."""
        from study.progress import nothing_completed

        records = self.records.values()
        if nothing := nothing_completed(records):
            raise InputError(f"{self.folder.path}: {nothing}; see `radtune show`")
        return ranking(records)[0]

    def analyze(
        self,
        only: Sequence[str] | None = None,
        *,
        skip: Sequence[str] = (),
        echo: Callable[[str], None] = lambda text: None,
    ) -> AnalysisResult:
        """Open the test split: score baselines, zero-shot and the best configurations, write the report.

        What is scored was chosen on validation. The run folder, then MLflow, records every access to the
        test split.

        Args:
            only: sections of the report, of `analysis.sections.SECTIONS`, that are written anew; the others
                that an earlier analysis of the same state of the study left stay. None: those of the study
                file, which are then the whole report.
            skip: sections that are not made, such as `overlay`, which may take half an hour.
            echo: receives what stands in the terminal, the judgement before the models are looked into.

        Raises:
            InputError: the study still runs, nothing has completed, the cohort or encoder has changed, or
                there is no such section.
        """
        from analysis.analyze import checked, write_analysis
        from analysis.images_named import images_named
        from cohort.manifest import Cohort

        sections, cohort = only or self.config.analysis.sections, Cohort.open(self.config.cohort)
        # Before the test split is opened.
        checked((*(sections or ()), *skip), cohort)
        images_named(self.config.analysis.looked_at, cohort)
        judgement = self.judgement()
        result = write_analysis(
            judgement,
            self.folder.analysis,
            sections,
            skip=skip,
            merge=only is not None,
            models=lambda: self.models(judgement),
            echo=echo,
        )
        averages = judgement.scores[
            (judgement.scores["label"] == "") & (judgement.scores["setting"] == judgement.best)
        ]
        from study.tracked_analysis import record_test_access  # MLflow takes seconds to import

        not_recorded = record_test_access(
            self.config.tracking.uri,
            self.folder.mlflow_run_file,
            self.folder.test_access_file,
            {f"test.{row.metric}": row.value for row in averages.itertuples()},
            self.folder.report,
        )
        return replace(result, not_recorded=not_recorded)

    def sync(self, *, echo: Callable[[str], None] = print) -> str:
        """Send to MLflow what it lacks of this study; an empty string, or one line saying what it refused.

        Raises:
            InputError: the study still runs or has not begun, or a database cannot be opened.
        """
        from study.driver import sync

        return sync(self.config, self.folder, echo)

    def predictions(self) -> Predictions:
        """What baselines, zero-shot, the best configurations and the answer say of every image, with the
        answer of the study that is compared with; no label.

        Raises:
            InputError: the study still runs, nothing has completed, or the cohort or encoder has changed.
        """
        from study.predictions import beside_another_study

        predictions = self._own_predictions()
        if other := self._compared_with:
            its_own = other._own_predictions()
            if its_own.facts["cohort_hash"] != predictions.facts["cohort_hash"]:
                raise InputError(
                    f"analysis.compare_with: {other.folder.path} ran on another cohort; "
                    "one table needs one cohort"
                )
            predictions = beside_another_study(predictions, its_own)
        return predictions

    def _own_predictions(self) -> Predictions:
        from study.predictions import stored_predictions

        self._refuse_running("analyse it when it has finished")
        _ = self.best  # refuses a study in which nothing completed
        self.folder.identity()  # refuses a study that has not begun
        if stored := stored_predictions(self.config, self.folder):
            return stored
        from study.study_rows import keep_predictions

        return keep_predictions(self._rows)

    def judgement(self, why: str = "") -> Judgement:
        """The study's predictions held against the test labels, for its report or an analysis of one's own.

        Args:
            why: for what, as the record of test access says; empty: to analyse the study.

        Raises:
            InputError: as `analyze`.
        """
        from analysis.judging.judgement import judge_test_split
        from cohort.ledger import note_access
        from cohort.manifest import Cohort
        from study.report_facts import facts_of

        cohort, predictions = Cohort.open(self.config.cohort), self.predictions()
        if cohort.content_hash != predictions.facts["cohort_hash"]:
            raise InputError(
                f"{self.folder.path}: the cohort is no longer what the study ran with; put the former back, "
                "or start a study under another name"
            )
        facts, why = (
            facts_of(self.config, self.folder, cohort, predictions),
            why or f"analyze {self.config.name}",
        )
        cohort.indices("test")  # there is something to open
        note_access(self.folder.test_access_file, why)
        if other := self._compared_with:
            note_access(other.folder.test_access_file, f"compared with by {self.config.name}")
        return judge_test_split(predictions, cohort, facts, self.ledger(cohort), why)

    def models(self, judgement: Judgement) -> Models:
        """What looks inside the models of a judgement of this study.

        Raises:
            InputError: the cohort or encoder has changed.
        """
        from study.study_models import models_of

        return models_of(
            self._rows,
            judgement,
            lambda name: replace(self._compared_with.predictor()[0], name=name),
        )

    def ledger(self, cohort: Cohort) -> Ledger:
        """The record of test access of the study's cohort."""
        from cohort.ledger import Ledger
        from cohort.remote_files import mirror

        return Ledger(cohort, mirror(self.config.cache))

    @property
    def _rows(self) -> StudyRows:
        from study.study_rows import StudyRows

        inputs, trainable = self.opened()
        return StudyRows(config=self.config, run=self.folder, inputs=inputs, trainable=trainable)

    def export(self, folder: str | Path, *, trial: int | None = None, with_encoder: bool = False) -> Path:
        """Write a bundle that `radtune predict` reads on another machine.

        Args:
            folder: the bundle's folder; an earlier bundle there is replaced.
            trial: the configuration's number; by default the study's answer, or the best on validation where
                that is its answer, never the best on test. A published configuration asked for by its number
                keeps its published threshold, 0.5.
            with_encoder: put the encoder's weights in, so that the bundle needs no hub. A fine-tuned tower,
                and an encoder of a folder or file of this machine, are always put in.

        Raises:
            InputError: no such configuration, one without a head, or a folder that holds something else.
        """
        from analysis.judging.evaluation_set import open_split_counts
        from analysis.report_parts import judged_predictions
        from study.export import export_bundle

        _ = self.best  # refuses a study in which nothing completed
        inputs, trainable = self.opened()
        candidate = self.candidate(trainable, trial)
        why = f"export {candidate.predictor.name} of {self.config.name}"
        judged, judgement = judged_predictions(self.folder.analysis), None
        if judged and judged == self.predictions().content_hash:
            judgement = self.judgement(why)
            counts = judgement.split.counts
        else:
            counts = open_split_counts(
                inputs.cohort, self.ledger(inputs.cohort), why, self.folder.test_access_file
            )
        return export_bundle(
            folder,
            candidate,
            inputs,
            objective=self.config.search.objective,
            judgement=judgement,
            counts=counts,
            with_encoder=with_encoder,
        )

    def register(self, bundle: str | Path, target: str) -> str:
        """Register an exported bundle in the study's MLflow store as the newest version of the model NAME of
        `target`, NAME@alias; returns the version's number.

        `mlflow.pyfunc.load_model("models:/NAME@alias")` and `mlflow models serve` predict with it.

        Raises:
            InputError: the target is not of that form, no bundle there, or the store refuses.
        """
        from study.registered_model import register

        return register(Path(bundle), target, self.config.tracking.uri, self.folder.mlflow_run_file)

    def predictor(self) -> tuple[Predictor, Cohort]:
        """The study's answer, or the best on validation where that is its answer, and what it ran on.

        Raises:
            InputError: nothing has completed, or the cohort or encoder has changed.
        """
        _ = self.best  # refuses a study in which nothing completed
        inputs, trainable = self.opened()
        return self.candidate(trainable, None).predictor, inputs.cohort

    def candidate(self, trainable: TrainableStudy, trial: int | None) -> Candidate:
        """Of a configuration by its number; None: the answer."""
        from study.selection import exported
        from study.trainable_study import trial_candidate

        answer = trainable.answer() if trial is None else None
        if answer is not None:
            return answer
        top = trainable.analysed(self.config.analysis.top)
        return trial_candidate(trainable, exported(self.records, top, trial))

    def opened(self) -> tuple[Inputs, TrainableStudy]:
        """Cohort, encoder and features as they were when the study ran, and its trainable."""
        from study.inputs import open_inputs
        from study.trainable_study import trainable_study

        self.folder.identity()  # refuses a study that has not begun
        inputs = open_inputs(self.config, self.folder)
        return inputs, trainable_study(self.config, inputs, self.folder)

    @property
    def _compared_with(self) -> Study | None:
        """The study whose answer stands in the same tables; None without."""
        if not self.config.analysis.compare_with:
            return None
        other = Study.open(self.config.analysis.compare_with)
        other._refuse_running("analyse when it has finished", "analysis.compare_with: ")
        return other

    def _refuse_running(self, remedy: str, where: str = "") -> None:
        if is_locked(self.folder.lock_file):
            raise InputError(f"{where}{self.folder.path}: the study still runs; {remedy}")
