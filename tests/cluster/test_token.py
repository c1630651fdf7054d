"""A study on the head of a cluster, in a shell that knows nothing of the cluster's token."""

import sys
from pathlib import Path

import pytest
import yaml

from study import Study
from tests.conftest import REPOSITORY
from tests.study.conftest import settings, square_cohort

RAY = str(Path(sys.executable).parent / "ray")


@pytest.mark.cluster
def test_a_study_finds_the_token_of_the_ray_that_it_joins(tmp_path, machine):
    """Once it tried for 40 seconds and ended in a traceback."""
    environment = {
        "HOME": str(machine.folder),
        "RAY_TMPDIR": str(machine.folder),
        "PYTHONPATH": str(REPOSITORY),
    }

    def run(*command: str, **more: str) -> str:
        return machine.run(command, cwd=tmp_path, environment=environment | more, timeout=300)

    run(RAY, "get-auth-token", "--generate")
    head = ["start", "--head", "--port=6379", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
    run(RAY, *head, RAY_AUTH_MODE="token")
    square_cohort(tmp_path / "cohort")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(settings(tmp_path, configurations=8)))
    said = run(sys.executable, "-m", "study", "run", "study.yaml")
    assert "on the Ray at 127.0.0.1:6379 (it runs on this machine)" in said
    assert "Token authentication" not in said
    assert len(Study.open(tmp_path / "runs" / "squares").records) == 8
