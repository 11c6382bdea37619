"""Tests of data sets see no folder for data but their own."""

import pytest


@pytest.fixture(autouse=True)
def no_default_folder(monkeypatch):
    monkeypatch.delenv("ZFORCING_DATA", raising=False)
