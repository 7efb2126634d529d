"""xmodal_lite: one camera's frame compressed with the other camera's as reference, to real bytes.

>>> from xmodal_lite import load_pretrained
>>> codec = load_pretrained("pair")
>>> data = codec.compress(visible, infrared, lmbda=1024)  # uint8 (2H, 2W, 3) and (H, W)
>>> visible_hat, infrared_hat = codec.decompress(data)

The names below are imported when they are first asked for, so that ``import xmodal_lite`` and the
command line's quick answers do not wait for PyTorch.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bitstream import BitstreamError as BitstreamError
    from .config import LITE as LITE
    from .config import PAPER as PAPER
    from .config import CodecConfig as CodecConfig
    from .data import open_pairs as open_pairs
    from .explorers import affine_explorer as affine_explorer
    from .explorers import attention_explorer as attention_explorer
    from .explorers import bits_explorer as bits_explorer
    from .explorers import lambda_explorer as lambda_explorer
    from .frames import DataError as DataError
    from .frames import Pair as Pair
    from .frames import read_pair as read_pair
    from .image_codec import ImageCodec as ImageCodec
    from .pair_codec import PairCodec as PairCodec
    from .pretrained import WeightsError as WeightsError
    from .pretrained import load_pretrained as load_pretrained
    from .pretrained import load_weights as load_weights
    from .pretrained import save_weights as save_weights
    from .scenes import render_scene as render_scene

# CompressAI scripts a function when it is imported, which PyTorch deprecates: no reader's business
warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated", FutureWarning)

_HOMES = {
    "bitstream": ("BitstreamError",),
    "config": ("CodecConfig", "LITE", "PAPER"),
    "scenes": ("render_scene",),
    "frames": ("DataError", "Pair", "read_pair"),
    "data": ("open_pairs",),
    "image_codec": ("ImageCodec",),
    "pair_codec": ("PairCodec",),
    "explorers": ("affine_explorer", "attention_explorer", "bits_explorer", "lambda_explorer"),
    "pretrained": ("WeightsError", "load_pretrained", "load_weights", "save_weights"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("xmodal-lite")
        except PackageNotFoundError:  # a checkout on the path
            return "not installed"
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
