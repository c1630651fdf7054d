"""One file per source of images and labels; each turns it into manifest rows.

To add one, write its file here (`cohort.readers.options` says what it holds) and name it below.
"""

READERS = (
    "table",
    "folders",
    "dicom",
    "chexpert",
    "isic",
    "iu_xray",
    "medmnist",
    "mimic_cxr",
    "nih",
    "padchest",
    "vindr_cxr",
)
"""All readers, each a command of `radtune cohort`, in the order of its help; imports nothing."""
