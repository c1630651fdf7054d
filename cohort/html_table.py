"""A small table for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_table(title: str, rows: Sequence[Sequence[object]]) -> str:
    """HTML of a table whose first row is its header. Every text is escaped: labels and names come from files
    that strangers wrote."""
    header, *body = [[escape(str(cell)) for cell in row] for row in rows]
    lines = ["<table>", f"<caption style='text-align: left'>{escape(title)}</caption>"]
    lines.append("<tr>" + "".join(f"<th>{cell}</th>" for cell in header) + "</tr>")
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    return "\n".join([*lines, "</table>"])
