"""What a terminal shows is what the tables hold."""

import re

from analysis.number_format import ranged, signed
from analysis.terminal import WIDTH


def test_every_row_stands_with_its_scores(analysed):
    lines = analysed.result.text.splitlines()
    for row in analysed.judgement.rows:
        own = analysed.result.scores.query("setting == @row.name and metric == 'macro_ap'").iloc[0]
        assert any(line.startswith(f"{row.name} ") and ranged(own) in line for line in lines)


def test_headline_gap_and_claims_are_there(analysed):
    text = analysed.result.text
    said = re.sub(r"\s+", " ", text)
    assert analysed.result.headline in said
    gap = analysed.result.gap.set_index("setting").loc["best-1"]
    assert f"{gap['validation']:.3f} -> {gap['test']:.3f} ({signed(gap['gap'])})" in said
    for claim in analysed.result.claims:
        # Textwrap breaks after a hyphen too.
        wanted = f"{claim.label} (" if claim.silent else f"{claim.label or 'average'} {claim.brief}"
        assert wanted.replace(" ", "") in text.replace("\n", "").replace(" ", "")
    assert max(map(len, text.splitlines())) <= WIDTH + 1


def test_it_says_over_how_many_labels_the_averages_are(analysed):
    averaged = int(analysed.judgement.split.averaged_C.sum())
    assert f"macro averages over {averaged} labels, the same in every row" in analysed.result.text


def test_multiclass_labels_have_their_metrics_and_are_called_so(of_classes):
    lines = of_classes.result.text.splitlines()
    (head,) = (line for line in lines if "macro AUROC" in line and "reaches" not in line)
    assert head.split()[-3:] == ["accuracy", "balanced", "kappa"] and "LRAP" not in head
    assert "labels are multiclass: exactly one is decided for an image" in lines
    averages = of_classes.result.scores.query("label == ''").set_index(["setting", "metric"])
    for name in ("prevalence", "best-1"):
        (line,) = (line for line in lines if line.startswith(f"{name} ") and "->" not in line)
        assert ranged(averages.loc[(name, "accuracy")]) in line
        assert line.endswith(f"{averages.loc[(name, 'cohen_kappa'), 'value']:.3f}")
    assert max(map(len, lines)) <= WIDTH + 1
