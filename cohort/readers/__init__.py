"""One file per source of images and labels; each turns it into manifest rows.

To add one, write its file here (`cohort.readers.options` says what it holds) and name it below.
"""

READERS = ("dicom", "iu_xray", "table")
"""All readers, each a command of `radtune cohort`, in the order of its help; imports nothing."""
