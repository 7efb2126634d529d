"""Crops: the same place cut from both frames of a pair; chapters 3 and 9 train on them."""

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from .data import PairSource
from .frames import DataError, Pair, match_sizes, resize, to_float


class CropDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Crops of the same place in both frames, for training.

    Item i depends on (seed, i) alone: a run that resumes at item i sees what it would have seen.
    Every len(source) items visit each pair once, in a new order. Half of the augmented crops are
    cut from the pair scaled down by 0.6 to 1.0 (the others keep the sensor's own texture), and
    half are mirrored. Frames smaller than a crop are replicate-padded at the right and bottom.

    Args:
        crop: side of the infrared crop in pixels; the visible crop is `scale` times that.
        augment: mirror and rescale; the place of a crop is random either way.
        length: number of items, len(source) unless given.
        cache_bytes: decoded frames kept in memory (by each worker); what is beyond is read anew.

    Shapes:
        item → visible (3, scale·crop, scale·crop), infrared (1, crop, crop), float32 in [0, 1]
    """

    def __init__(
        self,
        source: PairSource,
        crop: int = 128,
        scale: int = 2,
        augment: bool = True,
        seed: int = 0,
        length: int | None = None,
        cache_bytes: int = 4 * 2**30,
    ) -> None:
        if len(source) == 0:
            raise DataError(f"{source}: no pairs to crop; expected at least one")
        self.source = source
        self.crop = crop
        self.scale = scale
        self.augment = augment
        self.seed = seed
        self.length = len(source) if length is None else length
        self.cache_bytes = cache_bytes
        self._cache: dict[int, Pair] = {}
        self._cached_bytes = 0
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(f"item {index} of a CropDataset of length {self.length}")
        pair = self._pair(self._pair_index(index))
        rng = np.random.default_rng((self.seed, 1, index))
        height, width = pair.infrared.shape
        side = self.crop
        if self.augment and rng.random() < 0.5:
            largest = max(self.crop, min(height, width))
            side = min(round(self.crop / rng.uniform(0.6, 1.0)), largest)
        # Places are drawn in infrared pixels, so the visible ones are their exact multiples.
        top, left = (int(rng.integers(max(0, n - side) + 1)) for n in (height, width))
        mirror = self.augment and rng.random() < 0.5
        visible = _cut(pair.visible, self.scale * top, self.scale * left, self.scale * side)
        infrared = _cut(pair.infrared, top, left, side)
        crops = []
        for image, size in ((visible, self.scale * self.crop), (infrared, self.crop)):
            if image.shape[0] != size:
                image = resize(image, (size, size), Image.Resampling.BICUBIC)
            crops.append(to_float(image[:, ::-1] if mirror else image))
        return crops[0], crops[1]

    def _pair_index(self, index: int) -> int:
        epoch, place = divmod(index, len(self.source))
        if self._order[0] != epoch:
            order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.source))
            self._order = (epoch, order)
        return int(self._order[1][place])

    def _pair(self, index: int) -> Pair:
        pair = self._cache.get(index)
        if pair is None:
            pair = self.source[index]
            if self.scale != 2:
                visible = match_sizes(pair.visible, pair.infrared, self.scale)
                pair = Pair(pair.name, visible, pair.infrared)
            size = pair.visible.nbytes + pair.infrared.nbytes
            if self._cached_bytes + size <= self.cache_bytes:
                self._cache[index] = pair
                self._cached_bytes += size
        return pair


def _cut(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """The square (side, side, …) at (top, left), its last row and column repeated if short."""
    square = image[top : top + side, left : left + side]
    rows, columns = side - square.shape[0], side - square.shape[1]
    if rows or columns:
        pads = [(0, rows), (0, columns), (0, 0)][: image.ndim]
        square = np.pad(square, pads, mode="edge")
    return square
