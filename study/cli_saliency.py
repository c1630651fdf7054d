"""`radtune saliency`: where a predictor looks on given images."""

from __future__ import annotations

import argparse
from pathlib import Path

from cohort.errors import InputError
from cohort.readers.name_lists import comma_separated
from study.command import Commands, add_command, add_download_flag


def add_command_to(commands: Commands) -> None:
    """Add `saliency` to the parsers `commands`."""
    parser = add_command(
        commands,
        "saliency",
        _saliency,
        "draw where a bundle or a study's final model looks on images",
        "radtune saliency exports/sample scans/ --labels Cardiomegaly,Edema --out saliency/",
    )
    parser.add_argument("predictor", metavar="PREDICTOR", help="a bundle or a run folder")
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image files (PNG, JPEG, TIFF, DICOM, ...), folders of them, or quoted patterns",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="one folder per image, a picture and an array a label"
    )
    parser.add_argument("--labels", type=comma_separated, metavar="A,B", help="which (default: all)")
    parser.add_argument(
        "--method",
        default="layercam",
        metavar="M",
        help="gradcam, layercam, eigencam (does not ask for the label), or of transformers relevance or "
        "legrad (default: %(default)s)",
    )
    parser.add_argument(
        "--layer",
        default="",
        metavar="L",
        help="a layer of the tower, such as blocks.11.norm1, or published (default: the last that counts)",
    )
    parser.add_argument(
        "--shifts",
        type=int,
        default=1,
        metavar="N",
        help="move the image to N x N positions within a cell of the map and average: a finer map, N x N "
        "times the work (default: %(default)s)",
    )
    add_download_flag(parser)


def _saliency(arguments: argparse.Namespace) -> None:
    from analysis.inside.saliency.pictures import draw_saliency
    from analysis.number_format import counted
    from cohort.image_files import find_images
    from cohort.look_alikes import as_written
    from study.study import Study
    from vlm.bundle import Bundle
    from vlm.bundle_description import DESCRIPTION

    images = find_images(arguments.images)
    source, out = Path(arguments.predictor), Path(arguments.out)
    if (source / DESCRIPTION).exists():
        bundle = Bundle.load(source, allow_download=arguments.allow_download)
        predictor, intensity = bundle.predictor, bundle.intensity
    elif (source / "study.yaml").exists():
        predictor, cohort = Study.open(source).predictor()
        intensity = cohort.intensity
    else:
        raise InputError(f"{source}: neither a bundle nor a run folder")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out: {out} must be a folder, and this is a file; choose another name")
    asked_for = arguments.labels or predictor.labels
    labels = [as_written(label, predictor.labels, "--labels") or label for label in asked_for]
    refused: dict[str, int] = {}
    drawn = 0
    for one in draw_saliency(
        predictor,
        intensity,
        images,
        out,
        labels,
        method=arguments.method,
        layer=arguments.layer,
        shifts=arguments.shifts,
    ):
        drawn += len(one.labels)
        if one.folder.name != Path(one.image).stem:
            print(f"{one.image}: drawn in {one.folder}")
        for why in one.refused:
            refused[why] = refused.get(why, 0) + 1
    for why, count in refused.items():
        print(f"not drawn on {count} of {len(images)} images: {why}")
    print(f"{counted(drawn, 'map')} of {counted(len(images), 'image')}: {out}")
    if not drawn:
        raise InputError("no map could be drawn; see above")
