"""Open-i's archive of IU-Xray's reports, NLMCXR_reports.tgz: one XML per report, with codes and images."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from cohort.errors import InputError
from cohort.files import open_regular
from cohort.parquet_files import check_size

ENDINGS = (".tgz", ".tar.gz", ".tar")
_WRONG = (
    *(OSError, EOFError, zlib.error, tarfile.TarError, ElementTree.ParseError),
    *(AttributeError, KeyError, ValueError),
)
_LARGEST_REPORT = 2**20
"""Bytes of one XML file; the largest has some 10,000."""


def read_openi(path: Path | str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of reports (uid, MeSH, findings, impression) and of images (uid, filename, projection), as
    Kaggle's release has them, cells as text or None; projections are None, for the XML does not say them.

    Raises:
        InputError: it cannot be read, is larger than `cohort.limits` says, or has no report.
    """
    reports, images = [], []
    try:
        for where, root in _documents(Path(path)):
            uid = root.find("uId").attrib["id"].removeprefix("CXR")
            text = {
                one.attrib.get("Label", "").lower(): " ".join((one.text or "").split()) or None
                for one in root.iter("AbstractText")
            }
            codes = [(one.text or "").strip() for one in root.iter("major")]
            mesh = ";".join(filter(None, codes)) or None
            reports.append((where, uid, mesh, text.get("findings"), text.get("impression")))
            for one in root.iter("parentImage"):
                images.append((where, uid, _kaggle_name(one.attrib["id"], uid), None))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except _WRONG as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: not Open-i's archive of reports ({reason})") from error
    if not images:
        raise InputError(f"{path}: no report with an image in it; Open-i's is NLMCXR_reports.tgz")
    columns = ["row", "uid", "MeSH", "findings", "impression"], ["row", "uid", "filename", "projection"]
    return tuple(
        pd.DataFrame(rows, columns=names, dtype=object).set_index("row").rename_axis(None)
        for rows, names in zip((reports, images), columns, strict=True)
    )


def _documents(path: Path) -> Iterator[tuple[str, ElementTree.Element]]:
    """Where each XML is, for messages, and its root; one with a document type is refused, for only such a one
    may grow when it is parsed."""
    size = 0
    with open_regular(path) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
        for count, member in enumerate(archive, start=1):
            size += member.size
            check_size(path, bytes=size, rows=count)
            if not member.isfile() or not member.name.endswith(".xml"):
                continue
            if member.size > _LARGEST_REPORT:
                raise InputError(f"{path}: {member.name} has more than {_LARGEST_REPORT:,} bytes")
            data = archive.extractfile(member).read()
            if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
                raise InputError(f"{path}: {member.name} declares a document type; Open-i's do not")
            yield f"{path}, {member.name}", ElementTree.fromstring(data)


def _kaggle_name(image: str, uid: str) -> str:
    """`10_IM-0002-1001.dcm.png` of `CXR10_IM-0002-1001`, and the same of the two that repeat the uid."""
    own = image.removeprefix(f"CXR{uid}_").removeprefix(f"{uid}_")
    return f"{uid}_{own}.dcm.png"
