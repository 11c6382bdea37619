"""Devices of these tests: GPUs, or "meta", whose tensors have no values."""

import pytest
import torch

GPUS = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
DEVICE = GPUS[0] if GPUS else "meta"


@pytest.fixture
def device() -> torch.device:
    """The first GPU, or "meta": there a tensor that is made on a default device mixes with none."""
    return torch.device(DEVICE)


@pytest.fixture
def gpus() -> list[str]:
    """All GPUs; two are needed, or the test is skipped."""
    if len(GPUS) < 2:
        pytest.skip(f"needs two GPUs, got {len(GPUS)}")
    return GPUS


@pytest.fixture
def gpu() -> torch.device:
    """The first GPU; the test is skipped without one, since "meta" cannot take its place."""
    if not GPUS:
        pytest.skip("needs a GPU")
    return torch.device(GPUS[0])
