import subprocess
import sys

from tests.conftest import REPOSITORY
from vlm.encoder_names import distinct_names, resolved_name, shown, shown_apart
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


def test_what_is_passed_on_names_a_model_and_not_where_it_lies():
    assert shown("local-dir:/home/me/models/clip") == "local-dir:clip"
    assert shown("timm:resnet18@/home/me/own.safetensors") == "timm:resnet18@own"
    assert shown("hf-hub:someone/model") == "hf-hub:someone/model"


def test_models_and_cohorts_of_one_name_are_told_apart_by_as_little_as_that_takes():
    names = [
        "pixels",
        "local-dir:/home/me/a/clip",
        "timm:resnet18@/home/me/w.safetensors",
        "local-dir:b/clip",
    ]
    assert shown_apart(names) == ["pixels", "local-dir:a/clip", "timm:resnet18@w", "local-dir:b/clip"]
    assert distinct_names(["/x/1/mine", "/x/2/mine", "other"]) == ["1/mine", "2/mine", "other"]
    assert distinct_names(["mine", "a/mine"]) == ["mine", "a/mine"]
    assert distinct_names(["mine", "mine"]) == ["mine", "mine"]
