"""Pairs for all tests: of the folder that XMODAL_DATA names, else the embedded scenes."""

from collections.abc import Callable

import pytest

from xmodal_lite.data import Pair, PairSource, open_pairs


@pytest.fixture(scope="session")
def pair_source() -> Callable[[str], PairSource]:
    """`pair_source(split)`: the pairs of a split; each is read, or drawn, when it is asked for."""
    return lambda split="test": open_pairs(None, split)


@pytest.fixture(scope="session")
def test_pair(pair_source: Callable[[str], PairSource]) -> Pair:
    """The first pair of the test split, read once a session."""
    return pair_source("test")[0]
