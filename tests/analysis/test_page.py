"""The page is one file that needs no network, escapes what users name, and has its figures beside it."""

import re

import pytest
from PIL import Image

from analysis import figures
from analysis.judging.claims import rules
from analysis.judging.sections.limits import limits_of
from analysis.page import section_html, study_head, write_page
from analysis.section import Cell, Folded, Picture, Row, Section, Table, Terms, Words
from analysis.sections import OF_MULTICLASS, SECTIONS


@pytest.fixture(scope="module")
def html(analysed):
    return analysed.result.report.read_text(encoding="utf-8")


@pytest.fixture
def page(analysed, tmp_path):
    """The page of one section made of these parts."""

    def written(*parts):
        sections = [("A title", section_html(Section(parts=parts), tmp_path))]
        return write_page(study_head(analysed.judgement), sections, tmp_path).read_text()

    return written


def test_nothing_is_fetched_from_elsewhere(html):
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!#)", html)
    assert "<script" not in html and "@import" not in html
    # Nor by what a section on the disk, of a run folder that somebody sent, might hold.
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in html


def test_the_page_is_whole(analysed, html):
    assert html.startswith("<!doctype html>") and html.rstrip().endswith("</html>")
    sections = len(SECTIONS) - len(OF_MULTICLASS)
    assert html.count("<section>") == html.count("</section>") == sections
    assert html.count("<table") == html.count("</table>")
    assert not re.search(r"\bnan\b|None|Undefined", re.sub(r"<svg.*?</svg>", "", html, flags=re.S))
    assert analysed.result.failed == {}


def test_its_head_says_what_was_studied(html):
    head = html[html.index("<header>") : html.index("<section>")]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", head))
    for piece in (
        "encoder synthetic 32 features",
        "configurations 64",
        "1 failed",
        "validation",
        "labels 14",
    ):
        assert piece in text


def test_names_from_the_study_file_are_escaped(html):
    assert "a &lt;b&gt;study&lt;/b&gt;" in html and "<b>study</b>" not in html


def test_headline_rules_claims_and_limits_are_said(analysed, html):
    text = re.sub(r"\s+", " ", html.replace("&#39;", "'"))
    assert analysed.result.headline in text
    for rule in rules(analysed.study.facts.objective):
        assert rule in text
    for claim in analysed.result.claims:
        assert (claim.finding[1:] if not claim.silent else claim.label) in text
    for limit in limits_of(analysed.study.cohort, analysed.result.claims):
        assert limit in text


def test_every_figure_is_also_a_picture_on_disk(analysed, html):
    drawn = sorted((analysed.folder / "figures").iterdir())
    assert {path.stem for path in drawn} >= {
        "forest",
        "generalization_gap",
        "learning_curves",
        "reliability",
        "search_history",
        "search_learning_rate",
    }
    for path in drawn:
        with Image.open(path) as image:
            image.verify()
            assert image.width > 500
    assert len(re.findall("<figure[ >]", html)) == len(drawn)
    assert len(re.findall(r'<svg role="img" aria-label="[^"]{20,}"', html)) == len(drawn)


def test_every_kind_of_part_is_escaped(page):
    evil = "<b>x</b>"
    cells = [Cell(text=evil, small=evil), Cell(chips=[(evil, "good")]), evil]
    strip = Cell(text=evil, strip=(0.7, 0.6, 0.8, "#0072B2"))
    parts = [
        Words(text=evil, lines=[evil]),
        Table(columns=[evil], rows=[Row(cells=[*cells, strip])], title=evil),
        Terms(entries=[(evil, evil, evil)]),
        Picture(name="drawn", figure=figures.new_figure(2, 2), alt=evil, caption=evil, title=evil),
    ]
    html = page(*parts, Folded(title=evil, parts=[Words(text=evil)]))
    assert evil not in html
    assert html.count("&lt;b&gt;x&lt;/b&gt;") == 17


def test_a_folded_picture_is_drawn_too(page, tmp_path):
    html = page(Folded(title="more", parts=[Picture(name="inner", figure=figures.new_figure(2, 2), alt="")]))
    assert (tmp_path / "figures" / "inner.png").exists()
    assert re.search(r"<details><summary>more</summary>.*<figure><svg.*</details>", html, flags=re.S)


def test_a_strip_marks_chance_and_is_cut_at_the_ends_of_its_range(page):
    strip = Cell(text="0.750", strip=(0.75, 0.2, 0.9, "#0072B2"))
    html = page(Table(columns=["AUROC"], rows=[Row(cells=[strip])], strip_range=(0.5, 1.0)))
    assert 'x1="4.0" x2="4.0"' in html  # 0.5 lies at the left end
    assert 'cx="60.0"' in html  # half way
    assert 'x1="4.0" x2="93.6"' in html  # from the left end, not from outside, to 0.9


def test_the_arrow_of_a_column_stays_with_its_name(page):
    assert "macro AP\u00a0↑</th>" in page(Table(columns=["setting", "macro AP ↑"], rows=[]))


def test_rows_say_of_what_kind_they_are(page):
    rows = [
        Row(cells=["a", "1"], kind="best", rule=True),
        Row(cells=["b", Cell(text="no claim", across=1)], kind="quiet"),
        Row(cells=[Cell(text="c", across=2)]),
    ]
    html = page(Table(columns=["name", "value"], rows=rows, left=(0,)))
    assert '<tr class="best rule">' in html and '<tr class="quiet">' in html
    assert '<td colspan="2" class="left">c</td>' in html
    assert '<td class="left">a</td>' in html and "<td>1</td>" in html
