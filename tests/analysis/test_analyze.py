"""The files that an analysis leaves, and a section that fails."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from analysis import figures
from analysis.analyze import read_tables, usual, write_analysis
from analysis.number_format import ranged
from analysis.section import Row, Section, Table
from analysis.sections import OF_EXCLUSIVE, SECTIONS, calibration
from cohort.errors import InputError
from tests.analysis.synthetic import logits_of


def test_the_files_read_back_as_the_result(analysed):
    best = analysed.study.trials[1]
    read_scores, read_comparisons = read_tables(analysed.folder, best)
    pd.testing.assert_frame_equal(
        read_scores, analysed.result.scores.reset_index(drop=True), rtol=1e-4, atol=1e-6, check_dtype=False
    )
    assert list(read_comparisons["second"]) == list(analysed.result.comparisons["second"])
    assert read_tables(analysed.folder / "figures", best) is None
    another = replace(best, origin=replace(best.origin, trial=best.origin.trial + 1))
    assert read_tables(analysed.folder, another) is None
    assert (analysed.folder / "claims.txt").read_text().count("\n") == len(analysed.result.claims)
    assert list(pd.read_csv(analysed.folder / "generalization_gap.csv")) == [
        "setting",
        "metric",
        "validation",
        "test",
        "gap",
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
    monkeypatch.setattr(calibration, "run", lambda evidence: Section(parts=[], tables={"by_sex": by_sex}))
    result = write_analysis(analysed.evidence, tmp_path, ("calibration",))
    assert not result.failed and result.report.parent == tmp_path
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "by_sex.csv"), by_sex)


@pytest.mark.parametrize("where", [(calibration, "run"), (figures, "write")])
def test_a_section_that_fails_does_not_take_the_page_with_it(analysed, tmp_path, monkeypatch, where):
    """Whether it is computed or drawn when it fails."""

    def failing(*arguments):
        raise ValueError("no probabilities\nanywhere")

    monkeypatch.setattr(*where, failing)
    result = write_analysis(analysed.evidence, tmp_path, ("calibration", "limits"))
    assert result.failed == {"calibration": "no probabilities anywhere"}
    html = result.report.read_text()
    assert "This section could not be made: no probabilities anywhere." in html
    assert "Calibration" in html and "Limits of this evidence" in html
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
    monkeypatch.setattr(calibration, "run", lambda evidence: made)
    result = write_analysis(analysed.evidence, tmp_path, ("calibration", "limits"))
    assert list(result.failed) == ["calibration"]
    html = result.report.read_text()
    assert html.count("<h2>") == 2 and html.count("This section could not be made") == 1


def test_a_section_without_a_title_is_found_before_anything_is_written(analysed, tmp_path, monkeypatch):
    monkeypatch.delattr(calibration, "TITLE")
    with pytest.raises(AttributeError, match=r"calibration.*TITLE"):
        write_analysis(analysed.evidence, tmp_path, ("calibration", "limits"))
    assert not list(tmp_path.iterdir())


def test_a_section_that_does_not_exist_is_named_before_anything_is_written(analysed, tmp_path):
    with pytest.raises(InputError, match="there is no section 'luck' of the report; there are: scores, "):
        write_analysis(analysed.evidence, tmp_path, ("scores", "luck"))
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
    everywhere = [name for name in SECTIONS if name not in OF_EXCLUSIVE]
    assert usual(analysed.study.cohort) == everywhere
    ultrasound = replace(analysed.study.cohort, labels=("benign", "malignant"), modality="ultrasound")
    assert usual(ultrasound) == [name for name in everywhere if name != "published_rules"]
    report = write_analysis(analysed.evidence, tmp_path, ("published_rules",)).report.read_text()
    assert title in report and "Sadman et al. 2025, arXiv 2506.14136" in report
    assert "the paper's" not in analysed.result.report.read_text()
