"""Files of boxes and masks as they are published, and what does not belong to a cohort."""

import gzip
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from cohort.annotations import Annotations
from cohort.errors import InputError
from cohort.manifest import Cohort
from cohort.readers.annotation_formats import FORMATS
from cohort.readers.annotations import annotate, read_boxes, read_masks, remove
from study.cli import main
from tests.cohort.made_images import cohort_of, write_images


@pytest.fixture
def cohort(tmp_path):
    """0.png to 2.png of 20 x 20, 21 x 20 and 22 x 20 pixels, all positive for Edema."""
    write_images(tmp_path / "images", count=3)
    return cohort_of(tmp_path / "images", tmp_path / "cohort")


def boxes(cohort, tmp_path, text, form="csv", name="boxes.csv", **more):
    (tmp_path / name).write_text(text)
    drawn, other_names = read_boxes(tmp_path / name, form)
    return annotate(cohort, drawn, other_names=other_names, **more)


def first(cohort):
    return Annotations.open(cohort).regions[0]


@pytest.mark.parametrize(
    "text",
    [
        "image,label,x,y,w,h\n0.png,Edema,1,2,3,4\n1.png,,,,,\n",
        "image_id,class_name,x_min,y_min,x_max,y_max\n0,edema,1,2,4,6\n",
        "Filename,Finding,xmin,ymin,xmax,ymax\nimages/0.png,EDEMA,1,2,4,6\n",
    ],
)
def test_a_table_of_boxes_is_read_by_the_usual_names_of_its_columns(cohort, tmp_path, text):
    found = boxes(cohort, tmp_path, text)
    assert (found.regions, found.images) == (1, 1)
    region = first(cohort)
    assert (region.image, region.label, region.x, region.y, region.w, region.h) == (
        "0.png",
        "Edema",
        1,
        2,
        3,
        4,
    )


def test_boxes_drawn_on_larger_images_are_scaled_and_those_that_reach_out_cut_off(cohort, tmp_path):
    found = boxes(cohort, tmp_path, "image,label,x,y,w,h\n0,Edema,10,20,30,400\n", drawn_on=(200, 200))
    region = first(cohort)
    assert (region.x, region.y, region.w, region.h) == (1, 2, 3, 18) and found.clipped == 1
    assert "1 boxes reached beyond their image" in "\n".join(found.lines)


def test_several_readers_stay_and_one_who_draws_again_is_replaced(cohort, tmp_path):
    vindr = (
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
        "0,Edema,1,R1,1,1,5,5\n0,Edema,1,R2,2,2,6,6\n1,No finding,14,R1,,,,\n1,Nodule,3,R1,1,1,2,2\n"
    )
    found = boxes(cohort, tmp_path, vindr, "vindr")
    assert Annotations.open(cohort).raters == ["R1", "R2"] and found.regions == 2
    assert "left out 1 regions of labels that the cohort lacks: 'Nodule'" in found.lines
    boxes(cohort, tmp_path, "image,label,reader,x,y,w,h\n2,Edema,R2,0,0,9,9\n")
    regions = Annotations.open(cohort).regions
    assert [(region.image, region.rater) for region in regions] == [("0.png", "R1"), ("2.png", "R2")]


def test_nihs_list_is_read_with_its_ragged_header_and_its_own_spelling(tmp_path):
    write_images(tmp_path / "images", count=3)
    cohort = cohort_of(tmp_path / "images", tmp_path / "cohort")
    text = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n0.png,Edema,102.4,0,512,1024\n9.png,Mass,1,1,1,1\n"
    found = boxes(cohort, tmp_path, text, "nih")
    region = first(cohort)
    assert (region.x, region.w, region.h) == pytest.approx((2, 10, 20))
    assert "left out 1 regions of images that are not in the cohort: '9.png'" in found.lines


def test_coco_has_boxes_polygons_and_run_lengths(cohort, tmp_path):
    mask_HW = np.zeros((20, 20), dtype=bool)
    mask_HW[3:6, 5:9] = True
    packed = coco.encode(np.asfortranarray(mask_HW.astype(np.uint8)))
    rle = {"size": packed["size"], "counts": packed["counts"].decode()}
    content = {
        "images": [{"id": 7, "file_name": "images/0.png", "width": 20, "height": 20}],
        "categories": [{"id": 1, "name": "edema"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 7, "category_id": 1, "segmentation": rle},
            {"id": 3, "image_id": 7, "category_id": 1, "segmentation": [[10, 10, 14, 10, 14, 14, 10, 14]]},
            {
                "id": 4,
                "image_id": 7,
                "category_id": 1,
                "segmentation": {"size": [20, 20], "counts": [0, 1, 399]},
            },
            {"id": 5, "image_id": 7, "category_id": 1, "segmentation": {"size": [20, 20], "counts": [400]}},
            {"id": 6, "image_id": 7, "category_id": 1, "segmentation": [[3, 3, 3, 3, 3, 3]]},
        ],
    }
    boxes(cohort, tmp_path, json.dumps(content), "coco", name="coco.json")
    masks = {(region.x, region.y): region for region in Annotations.open(cohort).regions}
    assert len(masks) == 4  # a mask without a pixel is no region
    np.testing.assert_array_equal(masks[5, 3].mask(), mask_HW)
    assert masks[10, 10].mask().sum() == 16 and masks[0, 0].mask().sum() == 1 and masks[1, 2].runs is None


def test_chexlocalize_and_siim(cohort, tmp_path):
    mask_HW = np.zeros((20, 20), dtype=bool)
    mask_HW[1, 1:4] = True
    packed = coco.encode(np.asfortranarray(mask_HW.astype(np.uint8)))
    rle = {"size": packed["size"], "counts": packed["counts"].decode()}
    empty = {"size": [20, 20], "counts": [400]}
    content = {"0": {"Edema": rle, "Atelectasis": rle}, "1": {"Edema": empty}}
    found = boxes(cohort, tmp_path, json.dumps(content), "chexlocalize", name="gt.json")
    np.testing.assert_array_equal(first(cohort).mask(), mask_HW)
    assert found.regions == 1  # an empty mask is no region
    text = "ImageId, EncodedPixels\n0,0 1024 0 1024\n1,-1\n"
    boxes(cohort, tmp_path, text, "siim", label="Edema")
    siim = first(cohort)  # the first two columns of 1024
    assert siim.w == 1 and siim.h == 20 and siim.image_width == 20


def test_images_of_masks_lie_in_folders_of_their_labels_or_are_given_one(cohort, tmp_path):
    mask_HW = np.zeros((20, 21), np.uint8)
    mask_HW[2, 3] = 255
    for folder in ("masks/Edema", "flat"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(mask_HW).save(tmp_path / folder / "1.png")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "masks/Edema/0.png")
    assert annotate(cohort, read_masks(tmp_path / "masks")).regions == 1
    assert (first(cohort).image, first(cohort).x, first(cohort).y) == ("1.png", 3, 2)
    assert annotate(cohort, read_masks(tmp_path / "flat"), positive_labels=True, rater="B").regions == 1
    assert Annotations.open(cohort).raters == ["", "B"]
    with pytest.raises(InputError, match="says no label; give --label"):
        (tmp_path / "bare").mkdir()
        Image.fromarray(mask_HW).save(tmp_path / "bare" / "1.png")
        annotate(cohort, iter([next(read_masks(tmp_path / "bare"))]))


def masks_named(tmp_path, *names):
    for name in names:
        path = tmp_path / "named" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(20, dtype=np.uint8) * 255).save(path)
    return read_masks(tmp_path / "named")


def test_an_organs_masks_are_kept_beside_those_of_labels(cohort, tmp_path):
    boxes(cohort, tmp_path, "image,label,x,y,w,h\n0,Edema,1,2,3,4\n")
    found = annotate(cohort, masks_named(tmp_path, "0.png"), organ="lungs", drawn_by="software")
    assert (found.regions, found.images) == (1, 1)
    regions = {(one.label, one.organ): one for one in Annotations.open(cohort).regions}
    assert set(regions) == {("Edema", ""), ("", "lungs")}
    assert regions["", "lungs"].drawn_by == "software" and regions["Edema", ""].drawn_by == ""
    boxes(cohort, tmp_path, "image,label,x,y,w,h\n1,Edema,1,2,3,4\n")  # replaces labels alone
    assert sorted(one.image + one.organ for one in Annotations.open(cohort).regions) == [
        "0.pnglungs",
        "1.png",
    ]
    with pytest.raises(InputError, match="of every label; leave out --label"):
        annotate(cohort, masks_named(tmp_path, "0.png"), organ="lungs", label="Edema")
    with pytest.raises(InputError, match="an organ's name must"):
        annotate(cohort, masks_named(tmp_path, "0.png"), organ="  ")


def test_a_raters_regions_are_removed_all_or_of_an_organ(cohort, tmp_path):
    boxes(cohort, tmp_path, "image,label,reader,x,y,w,h\n0,Edema,A,1,2,3,4\n1,Edema,B,1,2,3,4\n")
    annotate(cohort, masks_named(tmp_path, "0.png"), organ="lungs", rater="A")
    assert remove(cohort, "A", "lungs") == 1 and len(Annotations.open(cohort).regions) == 2
    with pytest.raises(InputError, match=r"no regions by 'C'; annotated by 'A', 'B'"):
        remove(cohort, "C")
    assert main(["cohort", "annotate", str(cohort.folder), "--remove", "A"]) == 0
    assert Annotations.open(cohort).raters == ["B"]
    assert remove(cohort, "B") == 1 and Annotations.open(cohort) is None
    with pytest.raises(InputError, match="annotated by nobody"):
        remove(cohort, "B")


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        (("0_mask.png", "1_mask.png"), "2 of these are named as an image with '_mask' after its name"),
        (("mask-2.png",), "1 of these are named as an image with 'mask-' before its name"),
    ],
)
def test_masks_whose_names_have_more_than_their_images_names_are_told_so(cohort, tmp_path, names, cause):
    with pytest.raises(InputError, match="nothing was annotated") as error:
        annotate(cohort, masks_named(tmp_path, *(f"Edema/{name}" for name in names)))
    assert cause in str(error.value) and "name them as their images" in str(error.value)


def test_published_boxes_are_by_people_and_others_only_where_it_is_said(cohort, tmp_path):
    nih = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n0.png,Edema,102.4,0,512,1024\n"
    own = "image,label,x,y,w,h\n0,Edema,1,2,3,4\n"
    for text, words, expected in (
        (nih, ["--format", "nih"], "people"),
        (own, [], ""),
        (own, ["--drawn-by", "software"], "software"),
    ):
        (tmp_path / "boxes.csv").write_text(text)
        command = ["cohort", "annotate", str(cohort.folder), "--boxes", str(tmp_path / "boxes.csv"), *words]
        assert main(command) == 0
        assert first(cohort).drawn_by == expected


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("csv", "image,label,x,y,w,h\n0,Edema,50,2,3,4\n", "does not lie in its image of 20 x 20"),
        ("csv", "image,label,x,y,w,h\n0,Edema,1,2,0,4\n", "does not lie in its image"),
        (
            "csv",
            "image,label,x,y,w,h\n0,Edema,1,2,many,4\n",
            "row 2: a box or polygon needs numbers up to 100,000, got 'many'",
        ),
        ("csv", "image,label,x,y,w\n0,Edema,1,2,3\n", "no column for the box's h"),
        ("csv", "image,x,y,w,h\n0,1,2,3,4\n", "says no label"),
        (
            "csv",
            "image,label,x,y,w,h\n7,Edema,1,2,3,4\n",
            "nothing was annotated: left out 1 regions of images",
        ),
        (
            "csv",
            "image,label,x,y,w,h\n0,Mass,1,2,3,4\n",
            "nothing was annotated: .* labels that the cohort lacks",
        ),
        ("nih", "image,label\n", "not NIH's BBox_List"),
        ("coco", "{}", "not COCO's JSON"),
        ("coco", "[", "not a readable JSON"),
        ("chexlocalize", '{"0": {"Edema": {"size": [9, 9], "counts": "!"}}}', "not a compressed run-length"),
        ("chexlocalize", '{"0": {"Edema": {"size": [99999, 99999], "counts": [1]}}}', "not believed"),
        (
            "chexlocalize",
            '{"0": {"Edema": {"size": [10, 20], "counts": [0, 200]}}}',
            "the mask has 20 x 10 pixels",
        ),
        ("siim", "a,b\n1,2\n", "not SIIM-ACR's table"),
        ("siim", "ImageId,EncodedPixels\n0,1 2 3\n", "row 2: not pairs"),
        ("yolo", "", "--format must be one of csv, nih"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_changes_nothing(cohort, tmp_path, form, text, message):
    with pytest.raises(InputError, match=message) as error:
        boxes(cohort, tmp_path, text, form, name="given")
    assert "\n" not in str(error.value)
    assert Annotations.open(cohort) is None


def test_the_command_says_what_it_did_and_show_counts_it(cohort, tmp_path, capsys):
    (tmp_path / "boxes.csv").write_text("image,label,x,y,w,h\n0,Edema,1,2,3,4\n5,Edema,1,2,3,4\n")
    words = [
        "cohort",
        "annotate",
        str(cohort.folder),
        "--boxes",
        str(tmp_path / "boxes.csv"),
        "--rater",
        "me",
    ]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert (
        "1 regions on 1 images" in said and "left out 1 regions of images that are not in the cohort" in said
    )
    assert main(["cohort", "show", str(cohort.folder)]) == 0
    assert "raters: me" in capsys.readouterr().out
    assert main([*words, "--drawn-on", "20"]) == 2
    assert "--drawn-on must be two numbers" in capsys.readouterr().err
    assert main(["cohort", "annotate", str(cohort.folder), "--boxes", "nowhere.csv"]) == 2
    assert "nowhere.csv: no such file" in capsys.readouterr().err


def test_building_the_cohort_again_takes_its_annotations_along(cohort, tmp_path):
    """They are of other rows then; the file is no obstacle."""
    boxes(cohort, tmp_path, "image,label,x,y,w,h\n0,Edema,1,2,3,4\n")
    again = cohort_of(tmp_path / "images", tmp_path / "cohort")
    assert Annotations.open(again) is None


@pytest.fixture(scope="module")
def published() -> Path:
    """The tables that the wheel of torchxrayvision carries."""
    found = importlib.util.find_spec("torchxrayvision")
    if found is None:
        pytest.skip("torchxrayvision is not installed; pip install -e '.[test]' brings its tables")
    return Path(found.origin).parent / "data"


def unpacked(path, to):
    to.write_bytes(gzip.decompress(path.read_bytes()))
    return to


def test_the_published_files_are_read_whole(published, tmp_path):
    nih = list(FORMATS["nih"](unpacked(published / "BBox_List_2017.csv.gz", tmp_path / "nih.csv")))
    assert len(nih) == 984 and {one.label for one in nih} >= {"Infiltrate", "Effusion", "Cardiomegaly"}
    assert all(0 <= one.box[0] and one.box[0] + one.box[2] <= 1024.5 for one in nih)
    vindr = list(FORMATS["vindr"](unpacked(published / "vinbigdata-train.csv.gz", tmp_path / "vindr.csv")))
    assert len(vindr) == 36096 and len({one.rater for one in vindr}) == 11
    assert all(one.box[2] > 0 and one.box[3] > 0 for one in vindr)
    siim = FORMATS["siim"](unpacked(published / "siim-pneumothorax-train-rle.csv.gz", tmp_path / "siim.csv"))
    masks = [next(siim).mask_HW for _ in range(20)]
    assert all(mask_HW.shape == (1024, 1024) and 100 < mask_HW.sum() < 300_000 for mask_HW in masks)


def test_nihs_boxes_of_real_radiographs_are_found_by_their_names(published, real_data, tmp_path):
    source = real_data / "nih_cxr64"
    words = f"--table {source}/labels.csv --images {source}/images --image-column image_id --patient-column "
    words += f"patient_id --label-column finding_labels --split-column split --out {tmp_path}/nih"
    assert main(["cohort", "table", *words.split()]) == 0
    cohort = Cohort.open(tmp_path / "nih")
    drawn, other = read_boxes(unpacked(published / "BBox_List_2017.csv.gz", tmp_path / "nih.csv"), "nih")
    found = annotate(cohort, drawn, other_names=other)
    assert found.regions == 9 and sum(found.left_out["images that are not in the cohort"].values()) == 975
    targets_NC = cohort.targets_NC()
    for region in Annotations.open(cohort).regions:
        assert region.image_width == 64
        assert targets_NC[cohort.images().index(region.image), cohort.labels.index(region.label)] == 1


@pytest.fixture
def nested(tmp_path):
    """One image of each of two patients, in folders and under names as CheXpert's, and a DICOM id."""
    write_images(tmp_path / "images", count=3)
    names = ["valid/patient1/view1.png", "valid/patient2/view1.png", "1.2.840.10.55.png"]
    for n, name in enumerate(names):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / f"{n}.png").rename(tmp_path / "images" / name)
    return cohort_of(tmp_path / "images", tmp_path / "cohort")


@pytest.mark.parametrize("name", ["valid/patient77/view1.jpg", "1.2.840.10.99", "1.2.840.10.99.dcm"])
def test_a_region_of_an_absent_image_is_laid_on_no_other(nested, tmp_path, name):
    text = f"image,label,x,y,w,h\n{name},Edema,1,2,3,4\nvalid/patient1/view1.png,Edema,1,2,3,4\n"
    found = boxes(nested, tmp_path, text)
    assert found.regions == 1 and found.left_out == {"images that are not in the cohort": {name: 1}}


def test_a_flat_name_is_not_taken_for_one_in_another_folder(cohort, tmp_path):
    text = "image,label,x,y,w,h\npatient77/0.png,Edema,1,2,3,4\n1.png,Edema,1,2,3,4\n"
    found = boxes(cohort, tmp_path, text)
    assert found.regions == 1
    assert "though others of their name are in other folders: 'patient77/0.png'" in " ".join(found.lines)


def test_a_name_that_may_be_of_two_images_is_refused(nested, tmp_path):
    message = r"row 2: the image 'view1\.png' may be 'valid/patient1/view1\.png' or 'valid/patient2"
    with pytest.raises(InputError, match=message):
        boxes(nested, tmp_path, "image,label,x,y,w,h\nview1.png,Edema,1,2,3,4\n")
