"""MeSH to CheXpert-14, sides and zones."""

import pytest

from cohort.labels import CHEXPERT_14, NO_FINDING
from cohort.readers.mesh import mesh_rules, read_mesh


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        ("normal", {NO_FINDING: 1}),
        ("Cardiomegaly/borderline", {"Cardiomegaly": -1}),
        ("Cardiomegaly/mild", {"Cardiomegaly": 1}),
        ("Cardiac Shadow/enlarged;Cardiomegaly/borderline", {"Cardiomegaly": 1}),
        ("Aorta/tortuous", {}),
        ("Aorta/enlarged", {"Enlarged Cardiomediastinum": -1}),
        ("Mediastinum/right /enlarged ", {"Enlarged Cardiomediastinum": 1}),
        ("Opacity/ribs", {}),
        ("Opacity/lung/base/left", {"Lung Opacity": 1}),
        ("Opacity/pleura", {"Pleural Other": -1}),
        ("Opacity/lung/round", {"Lung Opacity": 1, "Lung Lesion": 1}),
        ("Opacity/lung/round;Calcified Granuloma", {"Lung Opacity": 1, "Lung Lesion": -1}),
        ("Nodule/lung", {"Lung Lesion": 1}),
        ("Nodule/lung;Calcinosis/lung/hilum", {"Lung Lesion": -1}),
        ("Nodule/lung;Calcinosis/lymph nodes", {"Lung Lesion": 1}),
        ("Density/lung/round;Calcified Granuloma/lung", {"Lung Lesion": -1}),
        ("Calcified Granuloma/lung", {}),
        ("Hydropneumothorax/left", {"Pneumothorax": 1, "Pleural Effusion": 1}),
        ("Heart Failure", {"Edema": -1, "Cardiomegaly": -1}),
        ("Thoracic vertebrae/degenerative", {}),
        ("Lung/hypoinflation", {}),
    ],
)
def test_codes_with_their_qualifiers_become_labels(annotation, values):
    findings = read_mesh(annotation)
    assert findings.values == values and findings.annotated and findings.unknown == ()


@pytest.mark.parametrize("annotation", ["No Indexing", None, ""])
def test_a_report_that_nobody_annotated_says_nothing(annotation):
    findings = read_mesh(annotation)
    assert not findings.annotated and findings.values == {} and findings.quality is None


def test_the_remark_on_quality_is_kept_and_alone_rules_nothing_out():
    alone = read_mesh("Technical Quality of Image Unsatisfactory ")
    assert alone.quality == "limited" and alone.only_quality and alone.annotated
    beside = read_mesh("Technical Quality of Image Unsatisfactory ;Lung/hypoinflation")
    assert beside.quality == "limited" and not beside.only_quality
    assert read_mesh("normal").quality == "adequate"


def test_an_unknown_heading_is_reported():
    assert read_mesh("Opacity/lung;Dragon/left").unknown == ("Dragon",)


def test_side_and_zone_come_from_positive_findings_only():
    findings = read_mesh("Opacity/lung/base/left;Cardiomegaly/borderline;Cicatrix/lung/apex/right")
    assert (findings.side, findings.zone) == ("left", "lower")
    assert findings.sites == "Lung Opacity:left:lower"


def test_findings_on_both_sides_are_bilateral_and_zones_are_joined():
    findings = read_mesh("Opacity/lung/upper lobe/left;Pleural Effusion/right;Consolidation/lingula")
    assert (findings.side, findings.zone) == ("bilateral", "upper+middle")
    assert findings.sites == "Lung Opacity:left:upper;Pleural Effusion:right:;Consolidation::middle"
    assert read_mesh("Cardiomegaly").side is None and read_mesh("Cardiomegaly").sites is None


def test_the_gravest_severity_and_every_acuity_are_kept():
    findings = read_mesh("Cardiomegaly/mild;Pleural Effusion/severe;Fractures, Bone/ribs/healed;Spine/acute")
    assert (findings.severity, findings.acuity) == ("severe", "healed")


def test_the_table_names_known_labels_and_values_only():
    for rule in mesh_rules():
        assert set(rule.values) <= set(CHEXPERT_14) and set(rule.values.values()) <= {1, -1}
        assert set(rule.beside_lung_calcification) <= set(rule.values)
        assert rule.tier in ("direct", "arguable", "none", "quality", "mask")
        assert bool(rule.values) == (rule.tier in ("direct", "arguable"))
