"""The file in a SQLite database's URI, and the URI of a file, whatever its path holds.

In a URI `%20` is a blank and `?` begins the options, so a path cannot be pasted into one.
"""

from __future__ import annotations


def sqlite_file(uri: str) -> str | None:
    """The path of the file that a SQLite URI names, relative where it is so there; None for another store.

    Raises:
        ValueError: a SQLite URI that names no file.
    """
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url  # takes a quarter of a second
    from sqlalchemy.exc import ArgumentError

    try:
        file = make_url(uri).database
    except ArgumentError:
        file = None
    if file in (None, "", ":memory:"):
        raise ValueError("must name a file, such as sqlite:///mlflow.db")
    return file


def with_file(uri: str, file: str) -> str:
    """The same SQLite URI of another file.

    A path that reads as itself in a URI stands there as it is. Any other is quoted, and the driver is named:
    of `sqlite:///` MLflow 3.17 takes what follows for a path, and would make a folder of the quoted name.
    """
    from sqlalchemy.engine import make_url

    url = make_url(uri).set(database=file)
    plain = f"{url.drivername}:///{file}"
    if make_url(plain) == url:
        return plain
    return url.set(drivername="sqlite+pysqlite").render_as_string(hide_password=False)


def sqlite_uri(file: str) -> str:
    """The URI of a file."""
    return with_file("sqlite://", file)
