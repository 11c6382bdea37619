"""``python -m zforcing_pyro`` is ``zforcing``."""

import sys

from .cli import main

sys.exit(main())
