"""What must stand in no file: credentials of the environment, on the way to the workers."""

import shutil
import tempfile
from pathlib import Path

import pytest

from study import Study
from tests.study.conftest import settings, square_cohort


@pytest.mark.fault
def test_credentials_of_the_environment_stand_in_no_file_of_ray_or_of_the_study(tmp_path, monkeypatch):
    """Ray Tune sent them to its actors by way of runtime_env_agent.log, which outlives the study."""
    rays = Path(tempfile.mkdtemp(prefix="ray"))  # Unix sockets bear no long path
    monkeypatch.setenv("RAY_TMPDIR", str(rays))
    secrets = {
        "AWS_ACCESS_KEY_ID": "AKIA5ECRET1",
        "AWS_SECRET_ACCESS_KEY": "s3cr3tAccessKey",
        "HF_TOKEN": "hf_t0ken",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    square_cohort(tmp_path / "cohort")
    Study.from_dict(settings(tmp_path, configurations=4)).run(echo=lambda line: None)
    files = [path for folder in (rays, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "runtime_env_agent.log" for path in files)
    for path in files:
        content = path.read_bytes()
        assert not [name for name, value in secrets.items() if value.encode() in content], path
    shutil.rmtree(rays, ignore_errors=True)
