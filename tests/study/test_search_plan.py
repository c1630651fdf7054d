"""Tests of the plan that a study keeps."""

from dataclasses import replace

from study.run_folder import RunFolder
from study.search_plan import SearchPlan, kept_plan


def test_a_resume_keeps_the_plan_of_a_machine_with_more_cores(tmp_path):
    run, plan = RunFolder(tmp_path), SearchPlan(configurations=64, bank_size=8, seed=0, concurrent=4)
    run.path.mkdir(exist_ok=True)
    assert kept_plan(plan, run) == plan
    for bank in range(2):
        run.note_asked(bank, {"configurations": [], "sampler": []})
    smaller = replace(plan, bank_size=2, concurrent=1, deadline=5.0)
    assert kept_plan(smaller, run) == replace(plan, deadline=5.0)
    longer = replace(plan, configurations=128)
    assert kept_plan(longer, run) == replace(longer, first_bank=2)
    assert kept_plan(replace(smaller, in_order=False), run).concurrent == 1
