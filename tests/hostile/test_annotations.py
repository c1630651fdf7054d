"""Files of boxes and masks that want to fill the memory or to end in a traceback: refused in one line."""

import json

import pytest

from tests.cohort.made_images import cohort_of, write_images
from tests.hostile.commands import radtune
from tests.hostile.confinement import confined, refusal

IMAGE = {"id": 1, "file_name": "0.png", "width": 20, "height": 20}


def annotate(folder, content, form, **bounds):
    write_images(folder / "images", 3)
    cohort_of(folder / "images", folder / "c")
    path = folder / f"boxes.{'json' if form in ('coco', 'chexlocalize') else 'csv'}"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return confined(
        radtune,
        folder,
        "cohort",
        "annotate",
        "c",
        "--boxes",
        path.name,
        "--format",
        form,
        writes=folder,
        **bounds,
    )


def coco(image=(), annotation=(), **content):
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]} | dict(annotation)
    categories = [{"id": 1, "name": "Edema"}]
    return json.dumps(
        {"images": [IMAGE | dict(image)], "categories": categories, "annotations": [one]} | content
    )


def mask(size, counts):
    return coco(annotation={"segmentation": {"size": size, "counts": counts}})


HOSTILE = {
    "no JSON": ("coco", b"\xff{"),
    "JSON 100,000 deep": ("coco", "[" * 100_000),
    "a list": ("coco", "[]"),
    "null": ("chexlocalize", "null"),
    "a number of 5,000 digits": ("coco", coco().replace("20", "9" * 5000)),
    "an image of no width": ("coco", coco({"width": 0})),
    "an image of negative width": ("coco", coco({"width": -5})),
    "an image of 10^4000 pixels a side": ("coco", coco().replace('"width": 20', '"width": 1' + "0" * 4000)),
    "an image of infinite width": ("coco", coco().replace('"width": 20', '"width": 1e999')),
    "a box of no numbers": ("coco", coco(annotation={"bbox": ["a", None, {}, []]})),
    "a box that is not a number": ("coco", coco(annotation={"bbox": [float("nan")] * 4})),
    "a box of three": ("coco", coco(annotation={"bbox": [1, 2, 3]})),
    "a box of huge numbers": ("coco", coco(annotation={"bbox": [1e308, 1e308, 1e308, 1e308]})),
    "a box of huge integers": ("coco", coco(annotation={"bbox": [10**400, 1, 1, 1]})),
    "a mask of many pixels": ("coco", mask([10**6, 10**6], [10**12])),
    "runs that overflow": ("coco", mask([20, 20], [2**62, 2**62, 2**62, 2**62, 400])),
    "a run of 2^70": ("coco", mask([20, 20], [2**70])),
    "negative runs": ("coco", mask([20, 20], [500, -100])),
    "runs that are no numbers": ("coco", mask([20, 20], ["a"])),
    "a compressed run of 2^60": ("coco", mask([20, 20], "ooooooooooooo0")),
    "a compressed run without end": ("coco", mask([20, 20], "o" * 100_000)),
    "a polygon of many pixels": (
        "coco",
        coco({"width": 10**5, "height": 10**5}, {"segmentation": [[0, 0, 9, 9, 0, 9]]}),
    ),
    "an outline longer than any image's": (
        "coco",
        coco(annotation={"segmentation": [[0, 0, 1e5, 1, 0, 2, 1e5, 3]] * 1000}),
    ),
    "a polygon of huge numbers": ("coco", coco(annotation={"segmentation": [[1e300] * 6]})),
    "a polygon of texts": ("coco", coco(annotation={"segmentation": ["abcdef"]})),
    "a polygon that is a number": ("coco", coco(annotation={"segmentation": [7]})),
    "categories of no kind": ("coco", coco(categories=7)),
    "an unhashable id": ("coco", coco(annotation={"category_id": []})),
    "a mask of no size": ("chexlocalize", '{"0.png": {"Edema": {"size": null, "counts": 3}}}'),
    "a mask of nothing": ("chexlocalize", '{"0.png": {"Edema": {}}}'),
    "SIIM's pairs beyond the image": ("siim", "ImageId,EncodedPixels\n0.png,99999999999 99999999999\n"),
    "SIIM's odd pairs": ("siim", "ImageId,EncodedPixels\n0.png,1 2 3\n"),
    "no list of NIH": ("nih", "a,b\n1,2\n"),
    "a short row of NIH": ("nih", "Image Index,Finding Label\n0.png,Edema,1\n"),
    "a box of words": ("csv", "image,label,x,y,w,h\n0.png,Edema,a,b,c,d\n"),
    "a box beyond": ("csv", "image,label,x,y,w,h\n0.png,Edema,1e300,1,1,1\n"),
    "an image with a NUL": ("csv", "image,label,x,y,w,h\na\0,Edema,1,1,1,1\n"),
    "a cell of 200 KB": ("nih", "Image Index,Finding Label\n" + "x" * 200_000 + ",Edema,1,1,1,1\n"),
    "no such format": ("yolo", ""),
    "no file": ("csv", None),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_of_boxes_is_refused_in_one_line(tmp_path, what):
    form, content = HOSTILE[what]
    refusal(annotate(tmp_path, content, form))
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["cohort.parquet"]
