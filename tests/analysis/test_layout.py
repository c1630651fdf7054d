"""The report in a browser: on a phone and on paper nothing is cut off and everything can be read."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from analysis.analyze import write_analysis
from scoring.operating_points import OperatingPoint
from tests.analysis.synthetic import finished_study

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here, which lays the page out")

PHONE, PAPER = 390, 690
"""Width of a phone, and of A4 less its margins, in pixels."""

LONG_LABELS = (
    *(f"Finding {n} of the left upper lobe with pleural involvement" for n in range(37)),
    "Pneumonoultramicroscopicsilicovolcanoconiosis_of_both_lungs",
    "<b>costs</b> $5 & $6",
    "Löffler “syndrome”",
)

MEASURE = """
const found = {outside: [], clipped: [], small: [], folded: []};
const page = document.querySelector("iframe").contentDocument, width = WIDTH;
const named = (element) => element.tagName + " " + element.textContent.trim().slice(0, 40);
for (const element of page.body.querySelectorAll("*")) {
  const box = element.getBoundingClientRect();
  if (element.closest("figure svg") || (element.closest(".scroll table") && MOVES)) continue;
  if (box.right > width + 0.5 || box.left < -0.5) found.outside.push(named(element));
}
for (const text of page.querySelectorAll("figure svg text")) {
  const svg = text.closest("svg"), own = text.getBoundingClientRect(), whole = svg.getBoundingClientRect();
  const scale = whole.width / svg.viewBox.baseVal.width;
  if (own.right > whole.right + 1 || own.left < whole.left - 1) found.clipped.push(named(text));
  if (parseFloat(getComputedStyle(text).fontSize) * scale < 9) found.small.push(named(text));
}
for (const line of page.querySelectorAll("details li, details td"))
  if (!line.checkVisibility()) found.folded.push(named(line));
found.scrollWidth = page.documentElement.scrollWidth;
const score = page.querySelector("tr.best td:nth-child(2)");
found.firstScore = [score.textContent.trim(), score.getBoundingClientRect().right];
found.claim = page.querySelector("dl.terms dd").getBoundingClientRect().width;
found.headBottom = page.querySelector("header").getBoundingClientRect().bottom;
found.next = page.querySelector("section").getBoundingClientRect().top;
document.body.textContent = "";
document.body.append(Object.assign(document.createElement("pre"), {textContent: JSON.stringify(found)}));
"""


def laid_out(report: str, width: int, folder) -> dict:
    """What `MEASURE` finds on the page in a frame of this width; on `PAPER` under its rules for print."""
    if width == PAPER:
        report = report.replace("@media print", "@media screen")
    script = MEASURE.replace("WIDTH", str(width)).replace("MOVES", str(width == PHONE).lower())
    page = folder / "frame.html"
    page.write_text(
        f'<!doctype html><meta charset="utf-8"><body><iframe srcdoc="{html.escape(report)}" '
        f'style="border:0; width:{width}px; height:900px"></iframe>'
        f"<script>document.querySelector('iframe').onload = () => {{ {script} }}</script>"
    )
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run(
        [*command, f"--user-data-dir={folder / 'profile'}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
    )
    (found,) = re.findall("<pre>(.*?)</pre>", done.stdout, flags=re.S)
    return json.loads(html.unescape(found))


@pytest.fixture(scope="module", params=["14 labels", "40 long labels", "3 multiclass labels"])
def report(request, analysed, tmp_path_factory):
    if request.param == "14 labels":
        return analysed.result.report.read_text()
    if request.param == "40 long labels":
        study = finished_study(300, labels=LONG_LABELS, name="n" * 100, bootstrap=200)
    else:
        labels = ("normal", "benign", "malignant")
        study = finished_study(500, labels=labels, multiclass=True, name="ultrasound", bootstrap=200)
    points = (OperatingPoint.parse("sensitivity 0.95"),)
    study = replace(study, facts=replace(study.facts, operating_points=points))
    folder = tmp_path_factory.mktemp("report")
    judgement = study.judgement(folder)
    result = write_analysis(judgement, folder, models=lambda: study.models(judgement))
    assert not result.failed
    return result.report.read_text()


def test_on_a_phone_nothing_is_cut_off_and_the_main_table_shows_a_score(report, tmp_path):
    found = laid_out(report, PHONE, tmp_path)
    assert found["scrollWidth"] <= PHONE
    assert found["outside"] == [] and found["clipped"] == [] and found["small"] == []
    score, right = found["firstScore"]
    assert re.match(r"0\.\d{3}", score) and right <= PHONE
    assert found["claim"] > 300


def test_on_paper_folds_are_open_no_table_is_cut_off_and_the_first_page_goes_on(report, tmp_path):
    found = laid_out(report, PAPER, tmp_path)
    assert found["outside"] == [] and found["clipped"] == []
    assert found["folded"] == []
    assert found["next"] - found["headBottom"] < 60
    assert not re.search(r"section[^}]*break-inside:\s*avoid", report)
