import json
import runpy
from pathlib import Path

import pytest

SAMPLE = runpy.run_path(str(Path(__file__).parent / "sample.py"))
WHOLE = json.dumps(SAMPLE["results"](resamples=20))


@pytest.fixture(scope="session")
def whole():
    """Results that no test changes."""
    return json.loads(WHOLE)


@pytest.fixture
def results():
    return json.loads(WHOLE)


@pytest.fixture(scope="session")
def doubtful():
    return SAMPLE["doubtful"]()
