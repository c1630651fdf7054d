"""What is left of an address when it is shown."""

import pytest

from study.credentials import masked
from study.study_file import validated


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql+psycopg2://ann:s3cret@db:5432/mlflow", "postgresql+psycopg2://***@db:5432/mlflow"),
        ("postgresql://ann:s3/c@ret@db/mlflow", "postgresql://***@db/mlflow"),
        ("https://token@host/x", "https://***@host/x"),
        ("mysql://db/m?user=a&password=s3cret&ssl=1", "mysql://db/m?user=a&password=***&ssl=1"),
        ("cannot open 'mysql://ann:s3cret@db/m', sorry", "cannot open 'mysql://***@db/m', sorry"),
        ("http://127.0.0.1:5000/#/experiments/1", "http://127.0.0.1:5000/#/experiments/1"),
        ("sqlite:////home/ann@lab/mlflow.db", "sqlite:////home/ann@lab/mlflow.db"),
        ("s3://bucket/key", "s3://bucket/key"),
    ],
)
def test_credentials_go_and_the_rest_stays(given, shown):
    assert masked(given) == shown


def test_a_refused_tracking_uri_is_shown_without_its_password():
    study = {"name": "a", "cohort": "c", "encoder": "pixels"}
    with pytest.raises(ValueError, match=r"tracking\.uri: .*'oracle://\*\*\*@db/m'"):
        validated(study | {"tracking": {"uri": "oracle://ann:s3cret@db/m"}})


@pytest.mark.parametrize(
    ("uri", "refused"),
    [
        ("postgresql+psycopg2://ann:s3cret@db/m", True),
        ("https://ann:s3cret@records.example.org", True),
        ("mysql://db/m?user=a&password=s3cret", True),
        ("postgresql+psycopg2://ann@db/m", False),
        ("http://127.0.0.1:5000", False),
    ],
)
def test_a_password_has_no_place_in_a_study_file(uri, refused):
    study = {"name": "a", "cohort": "c", "encoder": "pixels", "tracking": {"uri": uri}}
    if not refused:
        assert validated(study).tracking.uri == uri
        return
    with pytest.raises(ValueError, match=r"tracking\.uri: must hold no password.*PGPASSWORD") as caught:
        validated(study)
    assert "s3cret" not in str(caught.value)
