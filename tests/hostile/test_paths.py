"""Paths that no file can have, wherever a command takes one: refused in one line."""

import pytest

from tests.cohort.made_images import cohort_of, write_images
from tests.hostile.commands import radtune
from tests.hostile.confinement import confined, refusal

TABLE = ("cohort", "table", "--image-column", "image", "--labels", "Edema")
PATHS = {"a name of 300 characters": "n" * 300, "5,000 characters": "n/" * 2500, "below a file": "t.csv/x"}
COMMANDS = {
    "a table": (*TABLE, "--table", "{}", "--images", "images", "--out", "c"),
    "an images' folder": (*TABLE, "--table", "t.csv", "--images", "{}", "--out", "c"),
    "a cohort's folder": (*TABLE, "--table", "t.csv", "--images", "images", "--out", "{}"),
    "a cohort": ("cohort", "show", "{}"),
    "boxes": ("cohort", "annotate", "good", "--boxes", "{}"),
    "masks": ("cohort", "annotate", "good", "--masks", "{}"),
    "a contact sheet": ("cohort", "show", "good", "--contact-sheet", "{}.png"),
    "label names": (
        *TABLE,
        "--table",
        "t.csv",
        "--images",
        "images",
        "--out",
        "c",
        "--label-names",
        "{}.yaml",
    ),
    "a study file": ("run", "{}"),
    "a run folder": ("show", "{}"),
}


@pytest.mark.parametrize("what", COMMANDS)
@pytest.mark.parametrize("kind", PATHS)
def test_a_path_that_no_file_can_have_is_refused_in_one_line(tmp_path, what, kind):
    write_images(tmp_path / "images", 6)
    cohort_of(tmp_path / "images", tmp_path / "good")
    (tmp_path / "t.csv").write_text("image,Edema\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(6)))
    arguments = [part.format(PATHS[kind]) for part in COMMANDS[what]]
    outcome = confined(radtune, tmp_path, *arguments, writes=tmp_path, memory=2 << 30)
    refusal(outcome, longest=6000)
