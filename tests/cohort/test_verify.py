"""Whether a cohort is still what it was."""

from cohort.manifest import ANNOTATIONS, MANIFEST
from cohort.verify import verify
from tests.cohort.made_images import cohort_of, encode, random_image, write_images


def test_a_whole_cohort_has_nothing_wrong_and_each_damage_is_a_line(tmp_path):
    write_images(tmp_path / "images")
    cohort_of(tmp_path / "images", tmp_path / "c")
    assert verify(tmp_path / "c") == []
    (tmp_path / "images" / "2.png").unlink()
    (tmp_path / "images" / "4.png").write_bytes(encode(random_image(9, 9, seed=99)))
    (tmp_path / "c" / ANNOTATIONS).write_bytes(b"no Parquet")
    annotations, missing, other = verify(tmp_path / "c")
    assert "annotations.parquet: damaged" in annotations
    assert "cannot read '2.png' (no such file)" in missing
    assert "4.png: not the file the cohort was built from" in other
    (tmp_path / "c" / MANIFEST).write_bytes(b"no Parquet")
    (line,) = verify(tmp_path / "c")
    assert "cohort.parquet: damaged" in line
    (line,) = verify(tmp_path / "absent")
    assert "no cohort there" in line
