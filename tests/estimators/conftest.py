"""Programs of one test leave no parameter to the next."""

import pyro
import pytest


@pytest.fixture(autouse=True)
def clean_store():
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()
