"""The report is one file that needs no network, says what it must, and has its figures beside it."""

import re
from dataclasses import replace

import pytest
from PIL import Image

from analysis.claims import RULES
from analysis.report import limits_of, split_rows


@pytest.fixture(scope="module")
def html(analysed):
    return analysed.result.report.read_text(encoding="utf-8")


def test_nothing_is_fetched_from_elsewhere(html):
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!#)", html)
    assert "<script" not in html and "@import" not in html


def test_the_page_is_whole(html):
    assert html.startswith("<!doctype html>") and html.rstrip().endswith("</html>")
    assert html.count("<section>") == html.count("</section>")
    assert html.count("<table") == html.count("</table>")
    assert not re.search(r"\bnan\b|None|Undefined", re.sub(r"<svg.*?</svg>", "", html, flags=re.S))


def test_names_from_the_study_file_are_escaped(html):
    assert "a &lt;b&gt;study&lt;/b&gt;" in html and "<b>study</b>" not in html


def test_headline_rules_claims_and_limits_are_said(analysed, html):
    text = re.sub(r"\s+", " ", html.replace("&#39;", "'"))
    assert analysed.result.headline in text
    for rule in RULES:
        assert rule in text
    for claim in analysed.result.claims:
        assert (claim.finding[1:] if not claim.silent else claim.label) in text
    for limit in limits_of(analysed.study.cohort, analysed.result.claims):
        assert limit in text


def test_provenance_names_cohort_encoder_policy_and_what_was_added(analysed, html):
    for piece in ("c" * 16, "f" * 16, "uncertain: ignore", "abc123", "scikit-learn", "rows read 912"):
        assert piece in html


def test_every_figure_is_also_a_picture_on_disk(analysed, html):
    figures = sorted((analysed.folder / "figures").iterdir())
    assert [path.stem for path in figures] == [
        "fall",
        "forest",
        "learning_curves",
        "reliability",
        "search_history",
        "search_slices",
    ]
    for path in figures:
        with Image.open(path) as image:
            image.verify()
            assert image.width > 500
    assert html.count("<figure>") == len(figures)


def test_published_rows_stand_only_beside_iu_xray(html, uninformed):
    assert "as published" not in html
    assert uninformed.report.read_text().count("as published") == 3


def test_phantoms_are_called_phantoms(analysed):
    cohort = replace(analysed.study.cohort, drawn=True)
    assert limits_of(cohort, analysed.result.claims)[0].startswith("The images are drawn phantoms.")


def test_split_rows_count_images_patients_and_masked_cells(analysed):
    cohort = analysed.study.cohort
    rows = split_rows(cohort)
    assert [row["split"] for row in rows] == ["train", "val", "test"]
    assert sum(row["images"] for row in rows) == cohort.present.num_rows
    targets_NC = cohort.targets_NC(cohort.indices("val"))
    assert rows[1]["positives_C"] == (targets_NC == 1).sum(axis=0).tolist()
    assert rows[1]["masked_C"] == [0] * len(cohort.labels)
