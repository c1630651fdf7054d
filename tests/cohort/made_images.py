"""Image files of random pixels, and a cohort of them: what several tests of this room share."""

import io

import numpy as np
from PIL import Image

from cohort.image_files import ImageFiles, inspect_images, list_files
from cohort.labels import LabelPolicy
from cohort.writing import write_cohort


def encode(array, file_format="PNG", mode=None, **options):
    image = Image.fromarray(np.asarray(array))
    if mode:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def random_image(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_images(folder, count=6, colour=(), size=20):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        shape = (size, size + i, 3) if i in colour else (size, size + i)
        (folder / f"{i}.png").write_bytes(encode(random_image(*shape, seed=i)))
    return [f"{i}.png" for i in range(count)]


def cohort_of(folder, out):
    names = list_files(folder)
    inspected = inspect_images(ImageFiles(folder, names))
    return write_cohort(
        out,
        {
            "image": names,
            "file": names,
            "digest": inspected.digests,
            "present": [True] * len(names),
            "patient": names,
            "study": names,
            "view": [""] * len(names),
            "split": [("train", "val", "test")[i % 3] for i in range(len(names))],
        },
        np.ones((len(names), 1)),
        labels=["Edema"],
        source="test",
        policy=LabelPolicy(),
        images_root=folder,
        channels=inspected.channels,
    )
