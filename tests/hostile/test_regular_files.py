"""Whatever a user names that is no regular file of bounded size is refused in one line, not waited for."""

import os

import pytest

from tests.cohort.made_images import write_images
from tests.hostile import test_annotations, test_images, test_study_file, test_tables
from tests.hostile.commands import radtune
from tests.hostile.confinement import confined, refusal


def boxes(form):
    return lambda folder, name: test_annotations.annotate(folder, None, form, seconds=20)


def table(folder, name):
    return test_tables.build(folder, name, seconds=20)


def image_of_a_cohort(folder, name):
    return test_images.build(folder, seconds=20)


def image_to_predict(folder, name):
    return confined(test_images.predict, str(folder / name), writes=folder, seconds=20)


def study_file(folder, name):
    memory = test_study_file.MEMORY
    return confined(radtune, folder, "run", name, writes=folder, seconds=20, memory=memory)


READ = {
    "boxes of COCO": ("boxes.json", boxes("coco")),
    "boxes of NIH": ("boxes.csv", boxes("nih")),
    "table in CSV": ("t.csv", table),
    "table in Parquet": ("t.parquet", table),
    "image of a cohort": ("images/0.png", image_of_a_cohort),
    "image to predict": ("images/0.png", image_to_predict),
    "study file": ("study.yaml", study_file),
}
"""What is read: the name of the file, and what reads it."""
KINDS = ("a folder", "a FIFO", "/dev/zero")
CASES = [(what, kind) for what in READ for kind in KINDS if (what, kind) != ("image of a cohort", "a folder")]
CASES += [
    (what, "3 GB of zeros") for what in ("boxes of COCO", "boxes of NIH", "table in CSV", "table in Parquet")
]
CASES += [(what, "a link to itself") for what in ("image of a cohort", "study file")]
CASES += [("image to predict", "/dev/stdin"), ("table in CSV", "absent"), ("study file", "absent")]


def lay(path, kind):
    """Put what is no regular file of bounded size where one is looked for."""
    path.unlink(missing_ok=True)
    if kind == "a folder":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "3 GB of zeros":
        path.touch()
        os.truncate(path, 3 << 30)
    elif kind != "absent":
        path.symlink_to(path.name if kind == "a link to itself" else kind)


@pytest.mark.parametrize(("what", "kind"), CASES)
def test_only_a_regular_file_of_bounded_size_is_read(tmp_path, what, kind):
    name, run = READ[what]
    write_images(tmp_path / "images", 12)
    lay(tmp_path / name, kind)
    message = refusal(run(tmp_path, name))
    assert name.removeprefix("images/") in message


def test_a_folder_named_as_an_image_is_a_missing_image(tmp_path):
    write_images(tmp_path / "images", 12)
    lay(tmp_path / "images" / "0.png", "a folder")
    outcome = test_images.build(tmp_path, seconds=20)
    assert outcome.code == 0 and "1 of 12 image files are missing (0.png)" in outcome.output


def test_a_name_longer_than_any_file_s_is_refused(tmp_path):
    name = "s" * 5000 + ".yaml"
    assert refusal(study_file(tmp_path, name)).startswith(name[:100])
