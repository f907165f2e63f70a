"""`python -m nanoschool` is `nanoschool`."""

import sys

from nanoschool.cli import main

sys.exit(main())
