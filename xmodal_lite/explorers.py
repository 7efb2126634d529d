"""Explorers: the codec at work, live in Jupyter and precomputed in a page (chapters 11 and 12).

An explorer shows itself twice over: as widgets, which run the model at every change, and as plain
HTML, whose states are computed when it is first shown. Bytes are those of real streams; what is an
estimate says so. Each explorer has ``.states``, the plain numbers, and ``.figure()`` for print.

>>> from xmodal_lite.explorers import lambda_explorer
>>> lambda_explorer(load_pretrained("pair"), load_pretrained("alone"), open_pairs()[:2])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .config import LAMBDAS
from .explorer_affine import AffineExplorer
from .explorer_attention import AttentionExplorer
from .explorer_bits import BitsExplorer
from .explorer_lambda import LambdaExplorer
from .frames import Pair
from .pair_codec import PairCodec
from .pretrained import Codec
from .records import ReferenceKind
from .scenes import Scene

SIZE = (128, 256)
"""Infrared rows and columns that an explorer shows, the middle of the frame or less."""


def lambda_explorer(
    codec: PairCodec,
    baseline: Codec,
    pairs: Iterable[Pair | Scene],
    lambdas: Sequence[float] = LAMBDAS,
    *,
    references: Sequence[ReferenceKind] = ("true", "mirrored"),
    size: tuple[int, int] = SIZE,
) -> LambdaExplorer:
    """What λ buys: picture, error and bytes, with the reference and without.

    Args:
        codec: codes infrared given visible.
        baseline: codes infrared alone.
        pairs: the middle of each is coded.
        lambdas: rising; the live slider takes every value between.
        references: what the codec is given, see :func:`evaluation.reference_image`.
        size: infrared rows and columns, at most.

    Raises:
        ValueError: no pairs, no λ or one out of range, or codecs of another kind.
    """
    return LambdaExplorer(codec, baseline, pairs, lambdas, references, size)


def bits_explorer(
    codec: PairCodec,
    pairs: Iterable[Pair | Scene],
    lambdas: Sequence[float] = LAMBDAS,
    *,
    size: tuple[int, int] = SIZE,
) -> BitsExplorer:
    """Where the file's bytes go: section by section, and block by block over the frame.

    Arguments and errors as in :func:`lambda_explorer`. Sections are those of the file; the map
    is an estimate, −log₂ of the likelihoods of ŷ, summed over channels.
    """
    return BitsExplorer(codec, pairs, lambdas, size)


def attention_explorer(
    codec: PairCodec,
    pairs: Iterable[Pair | Scene],
    lmbda: float = 1024,
    *,
    size: tuple[int, int] = SIZE,
) -> AttentionExplorer:
    """Where a place in the infrared frame looks in the visible one: by stage, block and head.

    Args:
        codec: with spatial alignment.
        pairs: a :class:`Scene` brings its true shift along, which is then drawn in.
        lmbda: of the stream.
        size: infrared rows and columns, at most.

    Raises:
        ValueError: no pairs, λ out of range, or a codec without spatial alignment.
    """
    return AttentionExplorer(codec, pairs, lmbda, size)


def affine_explorer(
    codec: PairCodec,
    pairs: Iterable[Pair | Scene],
    lambdas: Sequence[float] = LAMBDAS,
    *,
    size: tuple[int, int] = SIZE,
) -> AffineExplorer:
    """γ and β of every channel, and the picture when some are put back to 1 and 0.

    The file stays as it is; only its decoder uses other coefficients. Arguments as in
    :func:`lambda_explorer`.

    Raises:
        ValueError: no pairs, λ out of range, or a codec without channel alignment.
    """
    return AffineExplorer(codec, pairs, lambdas, size)
