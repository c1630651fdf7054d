"""A SQLite URI leads to the file that it was made for, whatever the path holds, for MLflow too."""

import pytest
from mlflow import MlflowClient
from sqlalchemy import create_engine, text

from study.config import Tracking
from study.mlflow_store import open_store
from study.sqlite_uri import sqlite_file, sqlite_uri, with_file

NAMES = ["a b", "a%20b", "ex#h", "q?x", "ö", "it's", "a+b", "100%"]


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_the_one_that_sqlalchemy_opens_and_a_harmless_path_stands_as_it_is(tmp_path, name):
    (tmp_path / name).mkdir()
    file = f"{tmp_path}/{name}/mlflow.db"
    uri = sqlite_uri(file)
    assert sqlite_file(uri) == file and Tracking(uri=uri).uri == uri
    assert (uri == f"sqlite:///{file}") == (name not in ("a%20b", "q?x"))
    with create_engine(uri).connect() as connection:
        connection.execute(text("CREATE TABLE t (a)"))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "mlflow.db").exists()


def test_what_a_person_quoted_is_read_and_its_options_are_kept():
    assert sqlite_file("sqlite:////data/a%20b/mlflow.db") == "/data/a b/mlflow.db"
    assert sqlite_file("sqlite:///mlflow.db?timeout=30") == "mlflow.db"
    moved = with_file("sqlite:///mlflow.db?timeout=30", "/data/q?x.db")
    assert sqlite_file(moved) == "/data/q?x.db" and moved.endswith("?timeout=30")
    assert sqlite_file("postgresql://db/mlflow") is None and sqlite_file("http://db:5000") is None


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:mlflow.db"])
def test_a_uri_that_names_no_file_is_refused(uri):
    with pytest.raises(ValueError, match="must name a file, such as sqlite:///mlflow"):
        sqlite_file(uri)


def test_mlflow_opens_the_file_and_makes_no_folder_of_a_quoted_name(tmp_path):
    folder = tmp_path / "a b%20c?d#e ö"
    folder.mkdir()
    uri = sqlite_uri(f"{folder}/mlflow.db")
    open_store(uri).create_experiment("one")
    assert MlflowClient(uri).get_experiment_by_name("one") is not None
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
