"""Open-i's archive of reports."""

import io
import tarfile

import pytest

from cohort.errors import InputError
from cohort.readers.openi_xml import read_openi
from cohort.readers.source_table import read_source

REPORT = (
    '<eCitation><uId id="CXR1"/><Abstract><AbstractText Label="FINDINGS">Clear\n lungs.</AbstractText>'
    '<AbstractText Label="IMPRESSION"/></Abstract><MeSH><major>Opacity/lung</major>'
    '<major>Cardiomegaly</major><automatic>x</automatic></MeSH><parentImage id="CXR1_1_IM-0001-3001"/>'
    '<parentImage id="CXR1_IM-0002-1"/>'
    "</eCitation>"
)


def archive(path, text):
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("ecgen-radiology/1.xml")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))
    return path


def test_a_report_is_a_row_and_so_is_each_of_its_images(tmp_path):
    reports, images = read_openi(archive(tmp_path / "r.tgz", REPORT))
    assert reports.to_numpy().tolist() == [["1", "Opacity/lung;Cardiomegaly", "Clear lungs.", None]]
    assert images["filename"].tolist() == ["1_IM-0001-3001.dcm.png", "1_IM-0002-1.dcm.png"]
    assert reports.index[0].endswith("r.tgz, ecgen-radiology/1.xml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<eCitation>", "not Open-i's archive"),
        ("<eCitation/>", "not Open-i's archive"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "declares a document type"),
        ('<eCitation><uId id="CXR1"/></eCitation>', "no report with an image"),
    ],
)
def test_another_archive_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as error:
        read_openi(archive(tmp_path / "r.tgz", text))
    assert "\n" not in str(error.value)


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "r.tgz").write_bytes(b"\x1f\x8b nonsense")
    with pytest.raises(InputError, match="not Open-i's archive"):
        read_openi(tmp_path / "r.tgz")


def test_the_real_archive_has_the_images_and_codes_of_kaggles_tables(real_data):
    reports, images = read_openi(real_data / "iu_xray/NLMCXR_reports.tgz")
    kaggle = read_source(real_data / "iu_xray/indiana_reports.csv")
    projections = read_source(real_data / "iu_xray/indiana_projections.csv")
    assert len(reports) == 3955 and set(projections["filename"]) <= set(images["filename"])
    codes = dict(zip(reports["uid"], reports["MeSH"], strict=True))
    pairs = zip(kaggle["uid"], kaggle["MeSH"], strict=True)
    assert all(codes[uid] == mesh.replace(" ;", ";") for uid, mesh in pairs if mesh)
