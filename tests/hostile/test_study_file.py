"""A study file that wants to hang, to fill the memory or to end in a traceback: it is refused in one line."""

import re

import pytest

from cohort.errors import InputError
from study.study import Study
from tests.hostile.commands import radtune
from tests.hostile.confinement import confined, refusal

MEMORY = 2 << 30
"""The ranges of a search are checked with Optuna, which brings libraries along."""
HEAD = "cohort: c\nencoder: pixels\n"
DEEP = "[" * 20_000
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)

FILES = {
    "an integer of 5,000 digits": (HEAD + f"search: {{seed: {'9' * 5000}}}", "more than 100 characters"),
    "a hexadecimal integer that long": (
        HEAD + f"search: {{seed: 0x{'f' * 5000}}}",
        "more than 100 characters",
    ),
    "an integer to the base of 60": (HEAD + "search: {seed: 1" + ":59" * 50_000 + "}", "100 characters"),
    "a day that no month has": (HEAD + "name: 2001-99-99", "month must be in 1..12"),
    "a seed beyond all generators": (HEAD + "search: {seed: 1e30}", "search.seed: .*exceeded maximum"),
    "a seed beyond NumPy's": (HEAD + "search: {seed: 4294967296}", "search.seed: .*4294967295"),
    "not a number": (HEAD + "search: {time_budget: .nan}", "search.time_budget"),
    "no finite number": (HEAD + "search: {time_budget: .inf}", "search.time_budget: .*finite number"),
    "more configurations than a computer holds": (
        HEAD + "search: {configurations: 1000000000000}",
        "search.configurations: .*less than or equal to",
    ),
    "lists 20,000 deep": (HEAD + f"search: {DEEP}", "nested more than"),
    "mappings 20,000 deep": (HEAD + "search: " + "{a: " * 20_000, "nested more than"),
    "aliases that expand": (HEAD + BOMB, r"aliases \(\*name\)"),
    "50 MB": (HEAD + "# " + "x" * 50_000_000, "more than 262,144 bytes"),
    "an object": (
        HEAD + "name: !!python/object/apply:os.system ['true']",
        "could not determine a constructor",
    ),
    "no text": (b"\x00\x01\x02\xff\xfe", "not valid YAML"),
    "half of a pair of surrogates": (HEAD + 'name: "\\ud800"', "must be at most 100 letters"),
    "a name with a NUL": (HEAD + 'name: "a\\0b"', "must be at most 100 letters"),
    "a cohort with a NUL": ('cohort: "a\\0b"\nencoder: pixels\n', "printable"),
    "a storage with a NUL": (HEAD + 'storage: "a\\0b"', "printable"),
    "a cohort of 5,000 characters": (f"cohort: {'c' * 5000}\nencoder: pixels\n", "characters"),
    "a storage of 5,000 characters": (HEAD + f"storage: {'c' * 5000}", "characters"),
    "keys that are no text": (HEAD + "1: 2\n{a: b}: 3", "not valid YAML|unknown key"),
    "a key of numbers": (HEAD + "search: {1: 2}", "search.*key"),
    "nothing": ("", "a mapping of keys to values"),
    "a set": ("!!set {cohort, encoder}", "a mapping of keys to values"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_hostile_study_file_is_refused_in_one_line(tmp_path, what):
    content, reason = FILES[what]
    content = content.encode() if isinstance(content, str) else content
    (tmp_path / "study.yaml").write_bytes(content)
    outcome = confined(radtune, tmp_path, "run", "study.yaml", writes=tmp_path, seconds=20, memory=MEMORY)
    message = refusal(outcome)
    assert message.startswith("study.yaml: ")
    assert re.search(reason, message), message


@pytest.mark.parametrize(
    "assignment",
    [
        "search.seed=" + "9" * 5000,
        "search.seed=2001-99-99",
        "search=" + "[" * 5000,
        "search.ranges={a: &a [1], b: *a}",
        ".".join("a" * 3000) + "=1",
        "a\0b=1",
        "search.fixed=!!python/name:os.system",
        "=",
        "name.x=1",
    ],
)
def test_a_hostile_assignment_is_refused_in_one_line(tmp_path, assignment):
    (tmp_path / "study.yaml").write_text(HEAD)
    arguments = ("run", "study.yaml", "--set", assignment)
    refusal(confined(radtune, tmp_path, *arguments, writes=tmp_path, seconds=20, memory=MEMORY))


@pytest.mark.parametrize("key", ["storage", "cache"])
def test_a_folder_below_a_file_is_refused_before_the_study_starts(tmp_path, key):
    (tmp_path / "taken").write_text("")
    settings = {"name": "s", "cohort": "c", "encoder": "pixels", key: str(tmp_path / "taken" / "below")}
    with pytest.raises(InputError, match="taken is a file, and no folder can be made there"):
        Study.from_dict(settings).run()
