"""`radtune verify`: one line for a folder as it was written, and for one that is not."""

import shutil

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
    error = capsys.readouterr().err
    assert "nothing that can be verified; it must be one of: bundle (has bundle.json), cohort (has" in error


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("cohort", "cohort/cohort.parquet"),
        ("study", "runs/squares/banks/bank-0003.safetensors"),
        ("study", "runs/squares/baselines/logreg.safetensors"),
        ("study", "runs/squares/answer.safetensors"),
        ("cache", "cache/images-*/images.npy"),
        ("cache", "cache/embeddings-*/features.arrow"),
    ],
)
def test_one_flipped_bit_of_whatever_a_study_leaves_is_found(studied, tmp_path, capsys, kind, file):
    study, _ = studied
    shutil.copytree(study.folder.path.parents[1], tmp_path / "project", symlinks=True)
    path = min((tmp_path / "project").glob(file))
    folder = str(tmp_path / "project" / "/".join(file.split("/")[: 2 if kind == "study" else 1]))
    assert main(["verify", folder]) == 0
    assert capsys.readouterr().out == f"{folder}: {kind} as it was written\n"
    content = bytearray(path.read_bytes())
    content[-200 if path.suffix == ".parquet" else len(content) // 2 + len(content) // 4] ^= 4
    path.write_bytes(content)
    assert main(["verify", folder]) == 2
    error = capsys.readouterr().err
    assert path.name in error and error.count("\n") == 1
