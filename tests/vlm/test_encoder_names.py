import subprocess
import sys

from tests.conftest import REPOSITORY
from vlm.encoder_names import resolved_name
from vlm.encoders import load_encoder


def test_a_relative_folder_is_taken_from_the_given_one(tmp_path):
    resolved = f"local-dir:{tmp_path}/models/clip"
    assert resolved_name("local-dir:models/clip", tmp_path) == resolved
    assert resolved_name(resolved, tmp_path / "elsewhere") == resolved
    assert resolved_name("local-dir:~/clip", tmp_path).endswith("/clip")
    assert "~" not in resolved_name("local-dir:~/clip", tmp_path)


def test_other_names_hold_everywhere(tmp_path):
    for name in ("pixels", "phantom-clip", "biomedclip", "hf-hub:someone/model", "ViT-B-32/openai"):
        assert resolved_name(name, tmp_path) == name


def test_a_resolved_name_loads_from_another_working_directory(miniature_folder, tmp_path, monkeypatch):
    name = resolved_name(f"local-dir:{miniature_folder.name}", miniature_folder.parent)
    monkeypatch.chdir(tmp_path)
    assert load_encoder(name, device="cpu").name == name


def test_a_study_file_is_read_without_torch():
    read = "import sys, study.config; print(*sys.modules)"
    command = [sys.executable, "-c", read]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert not {"torch", "open_clip", "vlm.encoders"} & set(done.stdout.split())
