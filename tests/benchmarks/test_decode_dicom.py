"""DICOM through the store against pydicom alone, at its smallest."""

import re

import pytest

from benchmarks import dicom_agreement
from benchmarks.decode_dicom import SYNTAXES, main


@pytest.mark.slow
def test_every_transfer_syntax_has_both_rates(capsys, monkeypatch):
    monkeypatch.setattr(dicom_agreement, "SIZE", dicom_agreement.SIZE)  # put back afterwards
    main(["--images", "12", "--side", "64"])
    printed = capsys.readouterr().out
    assert len(re.findall(r" +\d+\.\d\d +\d+\.\d\d$", printed, re.M)) == len(SYNTAXES)
