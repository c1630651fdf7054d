"""How a study is cut into banks, and that it stays so whatever machine resumes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from study.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """How a study is cut into banks."""

    configurations: int
    """Configurations in the finished study."""
    bank_size: int
    seed: int
    concurrent: int
    """Banks that train at the same time."""
    in_order: bool = True
    """Ask for a bank when exactly the banks up to `concurrent` before it have been told. Reproducible; but a
    slow bank holds up the next, so trials that are stopped early at different times do without."""
    first_bank: int = 0
    """Of this plan; those before it were asked for by another, when the study was to hold fewer
    configurations."""
    deadline: float = math.inf
    """`time.time()` after which no bank is started, and at which those that train end."""

    def known(self, bank: int) -> range:
        """The banks whose results were known when a bank was asked for, in order."""
        return range(max(self.first_bank, bank - self.concurrent + 1))


def kept_plan(plan: SearchPlan, run: RunFolder) -> SearchPlan:
    """The plan that a study began with, or the given one, noted for its resumes: on a machine with more or
    fewer cores, or with a half of it done, the same configurations are to be tried.

    Raises:
        InputError: what was noted is damaged.
    """
    if not plan.in_order:
        return plan
    noted = run.plan()
    if noted.get("configurations") != plan.configurations:
        banks = [*run.asked_banks(), *run.finished_banks()]
        noted = {
            "configurations": plan.configurations,
            "bank_size": plan.bank_size,
            "concurrent": plan.concurrent,
            "first_bank": max(banks, default=-1) + 1,
        }
        run.write_plan(noted)
    return replace(plan, **noted)
