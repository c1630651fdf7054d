"""`radtune verify`: one line for a folder as it was written, and for one that is not."""

import pytest

from study.cli import main


@pytest.fixture(scope="module")
def bundle(studied, tmp_path_factory):
    return studied[0].export(tmp_path_factory.mktemp("verify") / "bundle")


def test_a_bundle_is_verified_and_one_flipped_bit_is_found(bundle, capsys):
    assert main(["verify", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{bundle}: 3 files as they were written; digest ") and said.count("\n") == 1
    card = bundle / "README.md"
    content = card.read_bytes()
    card.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert main(["verify", str(bundle)]) == 2
    error = capsys.readouterr().err
    assert "1 of 2 files are not as the bundle was written: README.md was changed" in error
    assert error.count("\n") == 1
    card.write_bytes(content)


def test_what_cannot_be_verified_is_said(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert (
        "nothing that can be verified; it must be one of: bundle (has bundle.json)" in capsys.readouterr().err
    )
