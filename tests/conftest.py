"""Tests run in float64 from one seed on one thread, so that tolerances mean something."""

import pytest
import torch


@pytest.fixture(autouse=True)
def float64_and_seed(monkeypatch):
    monkeypatch.delenv("ZFORCING_DATA", raising=False)  # no folder for data but a test's own
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def float32(float64_and_seed):
    torch.set_default_dtype(torch.float32)
