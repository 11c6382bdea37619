"""``python -m zforcing_pyro`` is ``zforcing``."""

import sys

from .app.cli import main

sys.exit(main())
