"""How much of a stranger's file is read: what is larger is refused in one line before it fills the memory.

Each limit lies well above what is known of real data sets; a message that names one says what to do about it.
"""

LARGEST_IMAGE_FILE = 2**28
"""Bytes of an image file, compressed as it is."""
MOST_PIXELS = 178_956_970
"""Of one image or mask: Pillow's own limit, about 13,377 x 13,377."""
MOST_PIXELS_AT_ONCE = 2**27
"""Of all images that are being decoded at a time; one larger image is decoded alone. A pixel takes up to 8
bytes on the way."""
LONGEST_RATIO = 100
"""How many times as long as its shorter side an image's longer side may be: a strip of a pixel's width holds
nothing to see."""
LARGEST_GEOMETRY = 4096
"""Pixels a side of what an encoder takes."""

MOST_FILES = 1_000_000
"""In an images' folder with its subfolders, in an archive, or named on a command line."""
LARGEST_DIRECTORY = 2**28
"""Bytes of a zip archive's list of members: `MOST_FILES` with names of 200 characters."""

LARGEST_TABLE = 2**29
"""Bytes of a CSV or Parquet table, or of what a Parquet table unpacks to."""
LARGEST_WORKBOOK = 2**28
"""Bytes that an Excel workbook unpacks to."""
LONGEST_ROW = 2**24
"""Characters of a line of a CSV table."""
LONGEST_CELL = 2**17
"""Characters of a cell of a table: the csv module's own limit."""
MOST_ROWS = 10_000_000
MOST_COLUMNS = 20_000
MOST_CELLS = 50_000_000

LARGEST_JSON = 2**28
"""Bytes of a JSON file of boxes and masks."""

LARGEST_YAML = 2**18
"""Bytes of a study file or of label names."""
DEEPEST_YAML = 32
"""Lists and mappings within each other."""
LONGEST_NUMBER = 100
"""Characters of a number or date in a YAML file."""
