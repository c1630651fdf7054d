"""The files that an analysis leaves, a section that fails, and parts of an analysis that join others."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from analysis import figures
from analysis.analyze import usual, write_analysis
from analysis.figures import new_figure
from analysis.judging.sections import calibration, limits, search
from analysis.number_format import ranged
from analysis.report_parts import SHARED, judged_predictions, report_files
from analysis.section import Picture, Row, Section, Table, Words
from analysis.sections import OF_MULTICLASS, SECTIONS
from analysis.study_state import state_of
from cohort.errors import InputError
from tests.analysis.synthetic import logits_of


def test_the_files_read_back_as_the_result(analysed):
    read_scores = pd.read_csv(analysed.folder / "test_scores.csv").fillna({"label": ""})
    pd.testing.assert_frame_equal(
        read_scores, analysed.result.scores.reset_index(drop=True), rtol=1e-4, atol=1e-6, check_dtype=False
    )
    read_comparisons = pd.read_csv(analysed.folder / "comparisons.csv")
    assert list(read_comparisons["second"]) == list(analysed.result.comparisons["second"])
    assert judged_predictions(analysed.folder) == analysed.judgement.predictions.content_hash
    assert judged_predictions(analysed.folder / "figures") == ""
    assert (analysed.folder / "claims.txt").read_text().count("\n") == len(analysed.result.claims)
    assert list(pd.read_csv(analysed.folder / "generalization_gap.csv")) == [
        "setting",
        "metric",
        "validation",
        "test",
        "gap",
        "row",
    ]


def test_the_predictions_on_disk_are_the_trials_probabilities_and_decisions(analysed):
    table = pd.read_parquet(analysed.folder / "test_predictions.parquet")
    trial, logits_NC = logits_of(analysed.study, "best-1")
    own = table[table["setting"] == "best-1"]
    labels = analysed.study.cohort.labels
    np.testing.assert_array_equal(own[[f"probability.{label}" for label in labels]], expit(logits_NC))
    np.testing.assert_array_equal(
        own[[f"decision.{label}" for label in labels]], expit(logits_NC) >= trial.rule.thresholds_C
    )
    assert list(own["image"]) == analysed.study.cohort.images(analysed.study.cohort.indices("test"))


def test_a_sections_table_becomes_its_file_beside_the_report(analysed, tmp_path, monkeypatch):
    by_sex = pd.DataFrame({"sex": ["F", "M"], "macro_ap": [0.25, 0.5]})
    monkeypatch.setattr(calibration, "run", lambda judgement: Section(parts=[], tables={"by_sex": by_sex}))
    result = write_analysis(analysed.judgement, tmp_path, ("calibration",))
    assert not result.failed and result.report.parent == tmp_path
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "by_sex.csv"), by_sex)


@pytest.mark.parametrize("where", [(calibration, "run"), (figures, "write")])
def test_a_section_that_fails_does_not_take_the_page_with_it(analysed, tmp_path, monkeypatch, where):
    """Whether it is computed or drawn when it fails."""

    def failing(*arguments):
        raise ValueError("no probabilities\nanywhere")

    monkeypatch.setattr(*where, failing)
    result = write_analysis(analysed.judgement, tmp_path, ("calibration", "limits"))
    assert result.failed == {"calibration": "no probabilities anywhere"}
    html = result.report.read_text()
    assert "This section could not be made: no probabilities anywhere." in html
    assert "Calibration" in html and "Limits of this judgement" in html
    assert not (tmp_path / "figures" / "reliability.png").exists()


@pytest.mark.parametrize(
    "made",
    [
        None,
        Section(parts=["a text that is no Words"]),
        Section(parts=[Table(columns=["AUROC"], rows=[Row(cells=[0.5])])]),
        Section(parts=[], tables={"by_sex": [0.5]}),
    ],
    ids=["nothing", "no part", "no cell", "no table"],
)
def test_a_section_that_is_not_made_as_sections_are_does_not_take_the_page_with_it(
    analysed, tmp_path, monkeypatch, made
):
    monkeypatch.setattr(calibration, "run", lambda judgement: made)
    result = write_analysis(analysed.judgement, tmp_path, ("calibration", "limits"))
    assert list(result.failed) == ["calibration"]
    html = result.report.read_text()
    assert html.count("<h2>") == 2 and html.count("This section could not be made") == 1


def test_a_section_without_a_title_is_found_before_anything_is_written(analysed, tmp_path, monkeypatch):
    monkeypatch.delattr(calibration, "TITLE")
    with pytest.raises(AttributeError, match=r"calibration.*TITLE"):
        write_analysis(analysed.judgement, tmp_path, ("calibration", "limits"))
    assert not list(tmp_path.iterdir())


def test_a_section_that_does_not_exist_is_named_before_anything_is_written(analysed, tmp_path):
    with pytest.raises(InputError, match="there is no section 'luck' of the report; there are: scores, "):
        write_analysis(analysed.judgement, tmp_path, ("scores", "luck"))
    assert not list(tmp_path.iterdir())


def test_a_result_shows_itself_in_a_notebook(analysed):
    result = analysed.result
    assert result.headline in repr(result) and str(result.report) in repr(result)
    html = result._repr_html_()
    row = result.scores.query("setting == 'best-1' and metric == 'macro_ap'").iloc[0]
    assert "<th>setting</th><th>macro AUROC</th><th>macro AP</th><th>macro F1</th>" in html
    assert f"<td>{ranged(row)}</td>" in html and html.count("<tr>") == 1 + result.scores["setting"].nunique()
    assert "<b>" not in html


def test_the_published_rules_stand_where_the_labels_are_the_published_ones_or_where_asked(analysed, tmp_path):
    title = "By the published rules"
    assert title in analysed.result.report.read_text()
    everywhere = [name for name in SECTIONS if name not in OF_MULTICLASS]
    assert usual(analysed.study.cohort) == everywhere
    ultrasound = replace(analysed.study.cohort, labels=("benign", "malignant"), modality="ultrasound")
    assert usual(ultrasound) == [name for name in everywhere if name != "published_rules"]
    report = write_analysis(analysed.judgement, tmp_path, ("published_rules",)).report.read_text()
    assert title in report and "Sadman et al. 2025, arXiv 2506.14136" in report
    assert "the paper's" not in analysed.result.report.read_text()


def made(text, table="numbers", figure="drawn"):
    """A section's `run`."""

    def run(judgement):
        picture = Picture(name=figure, figure=new_figure(1, 1), alt="")
        return Section(parts=[Words(text=text), picture], tables={table: pd.DataFrame({"a": [1.0]})})

    return run


@pytest.fixture
def quick(monkeypatch):
    """Sections that cost nothing: calibration, search and limits."""
    for module in (calibration, search, limits):
        name = module.__name__.rpartition(".")[2]
        monkeypatch.setattr(module, "run", made(f"first {name}", f"{name}_table", f"{name}_figure"))
    return ("search", "calibration", "limits")


def test_a_part_of_an_analysis_keeps_the_other_sections_of_the_same_state(
    analysed, tmp_path, monkeypatch, quick
):
    write_analysis(analysed.judgement, tmp_path, quick)
    monkeypatch.setattr(calibration, "run", made("second calibration", "another", "also another"))
    result = write_analysis(analysed.judgement, tmp_path, ("calibration",), merge=True)
    html = result.report.read_text()
    assert "first calibration" not in html
    places = [html.index(text) for text in ("first search", "second calibration", "first limits")]
    assert places == sorted(places) and html.count("<section>") == 3
    assert not (tmp_path / "calibration_table.csv").exists() and (tmp_path / "another.csv").exists()
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {
        "search_figure",
        "limits_figure",
        "also another",
    }


def test_sections_of_another_state_are_not_shown_beside_new_ones(analysed, tmp_path, quick):
    write_analysis(analysed.judgement, tmp_path, quick)
    cohort = replace(analysed.judgement.cohort, content_hash="d" * 64)
    result = write_analysis(replace(analysed.judgement, cohort=cohort), tmp_path, ("search",), merge=True)
    html = result.report.read_text()
    assert "first search" in html and "first limits" not in html
    (remark,) = [one for one in result.remarks if "another state" in one]
    assert "calibration, limits" in remark and remark in html
    assert sorted(path.stem for path in (tmp_path / "figures").iterdir()) == ["search_figure"]
    assert not (tmp_path / "limits_table.csv").exists() and (tmp_path / "search_table.csv").exists()


def test_a_whole_analysis_leaves_nothing_of_an_earlier_one(analysed, tmp_path, quick):
    write_analysis(analysed.judgement, tmp_path, quick)
    (tmp_path / "notes.txt").write_text("my own")
    html = write_analysis(analysed.judgement, tmp_path, ("limits",)).report.read_text()
    assert html.count("<section>") == 1 and "first limits" in html
    assert not (tmp_path / "search_table.csv").exists() and (tmp_path / "notes.txt").exists()
    names = {path.name for path in report_files(tmp_path)}
    assert names == {*SHARED, "limits_table.csv", "limits_figure.png"}


def test_what_is_skipped_is_said_and_kept_where_it_lies_there(analysed, tmp_path, monkeypatch, quick):
    result = write_analysis(analysed.judgement, tmp_path, quick, skip=("calibration",))
    assert "first calibration" not in result.report.read_text()
    (remark,) = [one for one in result.remarks if one.startswith("Skipped")]
    assert "calibration" in remark and remark in result.report.read_text()
    write_analysis(analysed.judgement, tmp_path, quick)
    monkeypatch.setattr(calibration, "run", made("never made"))
    result = write_analysis(analysed.judgement, tmp_path, quick, skip=("calibration",))
    assert "first calibration" in result.report.read_text()
    assert not any(one.startswith("Skipped") for one in result.remarks)
    for strange, words in ((("luck",), "no section 'luck'"), (quick, "leaves no section")):
        with pytest.raises(InputError, match=words):
            write_analysis(analysed.judgement, tmp_path, quick, skip=strange)


def test_the_report_is_there_after_each_section(analysed, tmp_path, monkeypatch, quick):
    seen = []

    def killed(judgement):
        seen.append((tmp_path / "report.html").read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr(limits, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        write_analysis(analysed.judgement, tmp_path, quick)
    (html,) = seen
    assert "first search" in html and "first calibration" in html and analysed.result.headline[:40] in html
    assert "is being written; to come: limits" in html
    again = write_analysis(analysed.judgement, tmp_path, ("search",), merge=True).report.read_text()
    assert "first calibration" in again and "being written" not in again


def test_an_analysis_that_was_stopped_goes_on(analysed, tmp_path, monkeypatch, quick):
    def killed(judgement):
        raise KeyboardInterrupt

    made = []
    with monkeypatch.context() as patched:
        patched.setattr(limits, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            write_analysis(analysed.judgement, tmp_path, quick)
    with monkeypatch.context() as patched:
        for module in (search, calibration, limits):
            usual_run = module.run
            patched.setattr(
                module, "run", lambda of, run=usual_run, name=module.__name__: (made.append(name), run(of))[1]
            )
        html = write_analysis(analysed.judgement, tmp_path, quick).report.read_text()
        assert made == [limits.__name__] and "first calibration" in html and "being written" not in html
        write_analysis(analysed.judgement, tmp_path, quick)
        assert len(made) == 1 + len(quick)  # one that was finished is made anew


def test_a_damaged_section_on_the_disk_is_none_and_names_nothing_outside(analysed, tmp_path, quick):
    outside = tmp_path / "kept.csv"
    outside.write_text("a\n")
    folder = tmp_path / "analysis"
    write_analysis(analysed.judgement, folder, quick)
    part = json.loads((folder / "parts" / "limits.json").read_text())
    part["tables"] = ["../kept", "/etc/hostname"]
    (folder / "parts" / "limits.json").write_text(json.dumps(part))
    (folder / "parts" / "search.json").write_text("{")
    html = write_analysis(analysed.judgement, folder, ("calibration",)).report.read_text()
    assert outside.exists() and html.count("<section>") == 1


def test_the_state_of_a_study_is_that_of_its_answer_and_its_cohort(analysed):
    judgement = analysed.judgement
    state = state_of(judgement)
    assert state == state_of(replace(judgement, study=replace(judgement.study, looked_at=("image-1",))))
    *others, best = sorted(judgement.predictions.rows, key=lambda row: row.id == judgement.best)
    moved = replace(best, scores_NC=best.scores_NC + 1e-3)
    changed = [
        replace(judgement, predictions=replace(judgement.predictions, rows=(*others, moved))),
        replace(judgement, cohort=replace(judgement.cohort, content_hash="d" * 64)),
        replace(judgement, study=replace(judgement.study, images=False)),
        replace(judgement, study=replace(judgement.study, trials=judgement.study.trials.iloc[1:])),
    ]
    assert len({state, *map(state_of, changed)}) == 1 + len(changed)


def test_a_section_that_takes_long_is_announced_with_how_to_leave_it_out(analysed, tmp_path, capsys):
    write_analysis(analysed.judgement, tmp_path, ["overlay", "limits"], models=lambda: analysed.models)
    error = capsys.readouterr().err
    assert "--skip overlay" in error and "--skip limits" not in error
