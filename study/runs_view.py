"""How MLflow's runs page shows a study: which columns, in which order, and a parallel-coordinates chart.

MLflow keeps a view that somebody saved from its page as a tag of the experiment: a JSON envelope with a name
and the page's own state (3.17's `SavedView`, read by the page itself, without a published schema). A view
written here is opened by its key in the page's address, and stands among the page's "Views".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

VIEW_TAG = "mlflow.sharedViewState."
"""Begins the name of an experiment's tag that holds a view; its key follows."""
STUDIES = "studies"
"""Key and name of the view that shows every study of a store as a row."""
VIEWS = 30
"""Most studies that have a view, the latest: the page lets people save their own only while there are fewer
than 40."""
_SECTION = "study"
_AUTHOR = "radtune"


def saved_view(name: str, state: Mapping[str, Any], when: float) -> str:
    """The value of a view's tag; `when` in seconds since the epoch."""
    now = int(when * 1000)
    view = {"name": name, "createdAt": now, "updatedAt": now, "state": json.dumps(state), "by": _AUTHOR}
    return json.dumps(view)


def own_views(tags: Mapping[str, str]) -> dict[str, str]:
    """Key -> name of the views written here among an experiment's tags, the latest first, `STUDIES` last."""
    views: dict[str, dict[str, Any]] = {}
    for tag, value in tags.items():
        if not tag.startswith(VIEW_TAG) or not value.startswith("{"):  # others may be compressed
            continue
        view = json.loads(value)
        if view.get("by") == _AUTHOR:
            views[tag.removeprefix(VIEW_TAG)] = view
    latest = sorted(views, key=lambda key: (key == STUDIES, -views[key]["createdAt"]))
    return {key: views[key]["name"] for key in latest}


def page_of_view(experiment: str, key: str, mode: str) -> str:
    """Where MLflow's UI opens a view, below its address."""
    return (
        f"/#/experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode={mode}"
        f"&viewStateShareKey={key}"
    )


def study_view(parent: str, objective: str, searched: Sequence[str]) -> dict[str, Any]:
    """A study's configurations, the best first, beside a chart of the objective over what was searched.

    Args:
        parent: id of the study's run.
        objective: name of the metric that the study maximised.
        searched: parameters that every configuration has: the chart leaves out one that lacks an axis.
    """
    columns = [
        _column("tags", "radtune.state"),
        _column("metrics", objective),
        *(_column("params", name) for name in searched),
    ]
    section = {"uuid": _SECTION, "name": "Study", "display": True, "columns": 1, "cardHeight": 560}
    unchanged = {"isReordered": False, "deleted": False, "isGenerated": False}
    chart = {
        "type": "PARALLEL",
        "uuid": "parallel",
        "metricSectionId": _SECTION,
        "displayName": f"{objective} over what was searched",
        "deleted": False,
        "isGenerated": False,
        "selectedParams": list(searched),
        "selectedMetrics": [objective],
        "showAllRuns": True,
    }
    return _state(f"tags.`mlflow.parentRunId` = '{parent}'", _column("metrics", objective), columns) | {
        "compareRunCharts": [chart],
        "compareRunSections": [section | unchanged],
    }


def studies_view(objective: str) -> dict[str, Any]:
    """Every study as a row, the latest first, by this metric of its best configuration and of its answer."""
    test = objective.replace("val.", "test.")
    columns = [
        _column("attributes", "Dataset"),
        *(_column("metrics", name) for name in ("val.study", objective, "val.logreg", test)),
        *(_column("params", name) for name in ("cohort", "encoder", "trainable")),
    ]
    return _state("tags.`radtune.trial` IS NULL", "attributes.start_time", columns)


def _state(where: str, order: str, columns: list[str]) -> dict[str, Any]:
    return {
        "searchFilter": where,
        "orderByKey": order,
        "orderByAsc": False,
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
    }


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"
