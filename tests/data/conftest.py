"""A cache of its own for every test, so that no test sees what another one read."""

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("OUTWEIGH_CACHE", str(tmp_path_factory.mktemp("cache")))
