"""`python -m study`: the command line without an installation, as a Ray cluster runs it."""

import sys

from study.cli import main

sys.exit(main())
