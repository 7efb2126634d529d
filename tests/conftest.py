"""Pairs for all tests: of the folder that XMODAL_DATA names, else the embedded scenes."""

import sys
from collections.abc import Callable

import pytest

from xmodal_lite.data import PairSource, open_pairs
from xmodal_lite.frames import Pair


@pytest.fixture(scope="session")
def pair_source() -> Callable[[str], PairSource]:
    """`pair_source(split)`: the pairs of a split; each is read, or drawn, when it is asked for."""
    return lambda split="test": open_pairs(None, split)


@pytest.fixture(scope="session")
def test_pair(pair_source: Callable[[str], PairSource]) -> Pair:
    """The first pair of the test split, read once a session."""
    return pair_source("test")[0]


@pytest.fixture(autouse=True)
def _fresh_accelerator_state():
    """Accelerate keeps one state a process: a test must not meet another test's precision."""
    yield
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(True)
