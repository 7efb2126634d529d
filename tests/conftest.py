"""For all tests: pairs of the folder that XMODAL_DATA names, else embedded scenes; tiny codecs."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import tiny_image_codec, tiny_pair_codec, write_pairs

from xmodal_lite.data import PairSource, open_pairs
from xmodal_lite.frames import Pair
from xmodal_lite.pair_codec import PairCodec
from xmodal_lite.pretrained import save_weights


@pytest.fixture(scope="session")
def pair_source() -> Callable[[str], PairSource]:
    """`pair_source(split)`: the pairs of a split; each is read, or drawn, when it is asked for."""
    return lambda split="test": open_pairs(None, split)


@pytest.fixture(scope="session")
def test_pair(pair_source: Callable[[str], PairSource]) -> Pair:
    """The first pair of the test split, read once a session."""
    return pair_source("test")[0]


@pytest.fixture(scope="module")
def pair_codec() -> PairCodec:
    """A tiny codec with tables; a test that changes it makes its own."""
    return tiny_pair_codec()


@pytest.fixture(scope="module")
def baseline() -> PairCodec:
    """The same network without its reference."""
    return tiny_pair_codec(channel_alignment=False, spatial_alignment=False)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """A plain folder of five small pairs."""
    return write_pairs(tmp_path_factory.mktemp("pairs") / "plain", count=5)


@pytest.fixture(scope="module")
def visible_weights(tmp_path_factory) -> Path:
    """A file with the weights of a tiny visible codec."""
    path = tmp_path_factory.mktemp("visible") / "visible.safetensors"
    save_weights(tiny_image_codec("visible"), path)
    return path


@pytest.fixture(autouse=True)
def _fresh_accelerator_state():
    """Accelerate keeps one state a process: a test must not meet another test's precision."""
    yield
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(True)
