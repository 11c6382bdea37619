"""The real data sets, where they lie beside the checkout."""

from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data sets are not at '{DATA}'")
