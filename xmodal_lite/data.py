"""Pairs: visible and infrared frames of the same scene, from a folder or drawn (chapter 1).

A folder is recognised by what it holds (FLIR ADAS v1.3 and v2, RoadScene, or plain `visible/` and
`infrared/`); every frame is checked as it is read, and a visible frame is brought to exactly twice
the infrared size, the geometry of the paper (1280×1024 beside 640×512). Whatever is wrong ends in
a `DataError` of one line.
"""

import hashlib
import json
import os
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import requests
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset
from tqdm.auto import tqdm

SPLITS = ("train", "valid", "test")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
TEST_PAIRS = 20  # the paper tests on 20 pairs of FLIR's validation part
SPLIT_SEED = 0
SCENE_SEEDS = {"train": range(1000, 1160), "valid": range(100, 112), "test": range(20)}
MANIFEST = Path(__file__).with_name("roadscene.json")

# Beyond this ratio of the two aspect ratios a pair cannot show the same field of view (RoadScene
# stays within 1.12, FLIR's 720×480 beside 640×512 is 1.2).
MAX_ASPECT_RATIO = 1.25


class DataError(ValueError):
    """Data that cannot be used; one line says the file, its value and what was expected."""


@dataclass(frozen=True)
class Pair:
    """One scene: `visible` uint8 (2H, 2W, 3) and `infrared` uint8 (H, W)."""

    name: str
    visible: np.ndarray
    infrared: np.ndarray


# --- reading one frame ---------------------------------------------------------------------------


def _open(path: str | Path) -> Image.Image:
    """The decoded image at `path`: 8 bits a channel, mode L or RGB, upright."""
    path = Path(path)
    try:
        if not path.is_file():
            raise DataError(f"{path}: no such file; expected an 8-bit image")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: empty file (0 bytes); expected an 8-bit image")
        with Image.open(path) as image:
            image.load()
            bits, mode, frames = _bits(path, image), image.mode, getattr(image, "n_frames", 1)
            alpha = mode in ("RGBA", "LA", "La", "RGBa", "PA") or "transparency" in image.info
            upright = ImageOps.exif_transpose(image)
    except DataError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds on broken files
        unknown = isinstance(error, Image.UnidentifiedImageError)
        reason = "not an image" if unknown else " ".join(str(error).split())
        raise DataError(f"{path}: unreadable ({reason}); expected a whole image") from None
    if bits > 8:
        raise DataError(f"{path}: {bits} bits a channel (mode {mode}); expected 8")
    if frames > 1:
        raise DataError(f"{path}: holds {frames} images; expected one")
    if mode == "P":
        raise DataError(f"{path}: palette image (mode P); expected grey or RGB")
    if alpha:
        raise DataError(f"{path}: has transparency (mode {mode}); expected grey or RGB without")
    if mode not in ("L", "RGB"):
        raise DataError(f"{path}: mode {mode}; expected 8-bit grey (L) or RGB")
    return upright


def _bits(path: Path, image: Image.Image) -> int:
    """Bits a channel in the file: Pillow hands 16-bit RGB over as 8-bit RGB without a word."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]  # the depth in IHDR, after signature, length, type and size
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]  # BitsPerSample
    return 16 if image.mode.startswith("I;16") else 32 if image.mode in ("I", "F") else 8


def read_visible(path: str | Path) -> np.ndarray:
    """A visible frame as uint8 (H, W, 3), a grey one repeated three times; raises DataError."""
    return np.asarray(_open(path).convert("RGB"))


def read_infrared(path: str | Path) -> np.ndarray:
    """An infrared frame as uint8 (H, W), or RGB with equal channels; raises DataError."""
    frame = np.asarray(_open(path))
    if frame.ndim == 3:
        spread = int(np.ptp(frame, axis=-1).max())
        if spread > 1:  # a grey frame through lossy WebP differs by 1
            raise DataError(f"{path}: in colour (channels {spread} apart); expected a grey frame")
        frame = np.ascontiguousarray(frame[..., 1])
    return frame


def match_sizes(visible: np.ndarray, infrared: np.ndarray, scale: int = 2) -> np.ndarray:
    """`visible` (h, w, 3) resized (Lanczos) to (scale·H, scale·W, 3) for `infrared` (H, W).

    Raises:
        DataError: the aspect ratios differ by more than a quarter: not the same field of view.
    """
    (h, w), (height, width) = visible.shape[:2], infrared.shape
    ratio = (w * height) / (h * width)
    if not 1 / MAX_ASPECT_RATIO <= ratio <= MAX_ASPECT_RATIO:
        raise DataError(
            f"visible {w}×{h} and infrared {width}×{height} differ in aspect ratio by a factor of "
            f"{max(ratio, 1 / ratio):.2f}; expected the same scene (at most {MAX_ASPECT_RATIO})"
        )
    size = (scale * width, scale * height)
    if (w, h) == size:
        return visible
    return _resize(visible, size, Image.Resampling.LANCZOS)


def _resize(image: np.ndarray, size: tuple[int, int], kernel: Image.Resampling) -> np.ndarray:
    """`image` uint8 (h, w) or (h, w, C) at `size` (width, height)."""
    picture = Image.fromarray(np.ascontiguousarray(image))  # 20 times as fast as from a view
    return np.asarray(picture.resize(size, kernel))


def read_pair(visible_path: str | Path, infrared_path: str | Path, name: str = "") -> Pair:
    """Two frames of one scene, visible at twice the infrared size; raises DataError."""
    visible, infrared = read_visible(visible_path), read_infrared(infrared_path)
    try:
        visible = match_sizes(visible, infrared)
    except DataError as error:
        raise DataError(f"{visible_path} and {infrared_path}: {error}") from None
    return Pair(name or Path(infrared_path).stem, visible, infrared)


def to_tensor(pair: Pair) -> tuple[torch.Tensor, torch.Tensor]:
    """`pair` as float32 in [0, 1]: visible (1, 3, 2H, 2W), infrared (1, 1, H, W)."""
    return _to_float(pair.visible)[None], _to_float(pair.infrared)[None]


def _to_float(image: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, C) or (H, W) → float32 (C, H, W) in [0, 1]; C is 1 for (H, W)."""
    planes = np.moveaxis(image, -1, 0) if image.ndim == 3 else image[None]
    return torch.from_numpy(np.ascontiguousarray(planes, dtype=np.float32)).div_(255)


# --- a folder of pairs ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """Where a pair comes from: two files, or the seed of an embedded scene."""

    name: str
    visible: Path = Path()
    infrared: Path = Path()
    seed: int | None = None

    def load(self) -> Pair:
        if self.seed is None:
            return read_pair(self.visible, self.infrared, self.name)
        from xmodal_lite.scenes import render_scene

        scene = render_scene(self.seed)
        return Pair(self.name, scene.visible, scene.infrared)


class PairSource:
    """The pairs of one split, read from disk (or drawn) each time they are asked for.

    `source[i]` is a Pair, `source[:5]` a shorter PairSource; `names` are the pairs' names, `kind`
    is one of "flir-v1", "flir-v2", "roadscene", "plain", "scenes", `split` one of "train",
    "valid", "test", "all".
    """

    def __init__(self, kind: str, split: str, entries: list[Entry]) -> None:
        self.kind = kind
        self.split = split
        self.entries = entries

    @property
    def names(self) -> list[str]:
        return [entry.name for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> "PairSource": ...
    def __getitem__(self, index: int | slice) -> "Pair | PairSource":
        if isinstance(index, slice):
            return PairSource(self.kind, self.split, self.entries[index])
        return self.entries[index].load()

    def __iter__(self) -> Iterator[Pair]:
        return (entry.load() for entry in self.entries)

    def __repr__(self) -> str:
        return f"PairSource(kind={self.kind!r}, split={self.split!r}, {len(self)} pairs)"


def open_pairs(data: str | Path | None = None, split: str = "test") -> PairSource:
    """The pairs of a split ("train", "valid", "test" or "all") of a data folder.

    Args:
        data: the folder; None takes the environment variable XMODAL_DATA, and without it the
            embedded scenes. "scenes" is always those (a folder of that name is "./scenes").

    Splits: `splits.json` where a plain folder has one (a "valid" that it lacks is every tenth pair
    of its "train"), else a seeded one; RoadScene's are those of this package's manifest (what that
    does not know is in "train", or, from FLIR's validation part, only in "all"); FLIR's "test" are
    20 pairs drawn from its own validation part, and its "valid" are runs of neighbouring frames
    from its training part.

    Raises:
        DataError: no such folder, no known layout, a frame without a partner, a split that is
            unknown or empty.
    """
    if split not in (*SPLITS, "all"):
        raise DataError(f"split {split!r}: unknown; expected one of {', '.join(SPLITS)}, all")
    root = data or os.environ.get("XMODAL_DATA")
    if not root or root == "scenes":
        seeds = [s for part in SPLITS if split in (part, "all") for s in SCENE_SEEDS[part]]
        return PairSource("scenes", split, [Entry(f"scene_{s:04d}", seed=s) for s in seeds])
    origin = root if data else f"{root} (XMODAL_DATA)"
    try:
        if not Path(root).is_dir():
            what = "is a file" if Path(root).is_file() else "no such folder"
            raise DataError(f"{origin}: {what}; expected a folder of visible and infrared frames")
        kind, folder = _recognise(Path(root))
        entries = _READERS[kind](folder)[split]
    except OSError as error:
        raise DataError(f"{origin}: {error.strerror}; expected a readable folder") from None
    if not entries:
        raise DataError(f"{folder}: split {split!r} is empty; expected at least one pair ({kind})")
    return PairSource(kind, split, entries)


_LAYOUTS = {
    "flir-v1": (("train/RGB", "train/thermal_8_bit"), ("val/RGB", "val/thermal_8_bit")),
    "flir-v2": (
        ("images_rgb_train", "images_thermal_train"),
        ("images_rgb_val", "images_thermal_val"),
        ("video_rgb_test", "video_thermal_test"),
    ),
    "roadscene": (("crop_HR_visible", "cropinfrared"), ("crop_LR_visible", "cropinfrared")),
    "plain": (("visible", "infrared"),),
}


def _holds(folder: Path, couple: tuple[str, str]) -> bool:
    return all((folder / part).is_dir() for part in couple)


def _recognise(root: Path) -> tuple[str, Path]:
    """The kind and the folder: `root` itself, or the one folder inside that is recognised."""
    children = sorted(child for child in root.iterdir() if child.is_dir())
    for level in ([root], children):
        found = [
            (kind, folder)
            for folder in level
            for kind, couples in _LAYOUTS.items()
            if any(_holds(folder, couple) for couple in couples)
        ]
        if level == [root] and found or len(found) == 1:
            return found[0]
    sought = "; ".join(f"{a} + {b} ({kind})" for kind, ((a, b), *_) in _LAYOUTS.items())
    present = ", ".join(child.name for child in children[:6]) or "no folders"
    raise DataError(f"{root}: no known layout (holds {present}); looked for {sought}")


def _frames(folder: Path) -> dict[str, Path]:
    """Image files of a folder by stem, in the order of their names."""
    frames: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in frames:
            raise DataError(f"{path}: same name as {frames[path.stem].name}; expected one of them")
        frames[path.stem] = path
    return frames


def _couple(visible: Path, infrared: Path, partners: bool = True) -> list[Entry]:
    """Pair two folders by stem; a frame without partner is an error, or else left out."""
    left, right = _frames(visible), _frames(infrared)
    if partners:
        for name in sorted(left.keys() ^ right.keys()):
            path, other = (left[name], infrared) if name in left else (right[name], visible)
            raise DataError(f"{path}: no partner; expected {name}.* in {other}")
    return [Entry(name, left[name], right[name]) for name in left if name in right]


def _split_by_name(entries: list[Entry], names: dict[str, list[str]]) -> dict[str, list[Entry]]:
    by_name = {entry.name: entry for entry in entries}
    chosen = {part: [by_name[n] for n in names.get(part, []) if n in by_name] for part in SPLITS}
    return {**chosen, "all": entries}


def _read_plain(folder: Path) -> dict[str, list[Entry]]:
    entries = _couple(folder / "visible", folder / "infrared")
    if not entries:
        raise DataError(f"{folder}: no images; expected equal names in visible and infrared")
    path = folder / "splits.json"
    if path.exists():
        return _split_by_name(entries, _read_splits(path, {entry.name for entry in entries}))
    shuffled = random.Random(SPLIT_SEED).sample(entries, len(entries))
    count = len(entries)
    test, valid = max(1, min(TEST_PAIRS, count // 5)), count // 10 or int(count > 2)
    parts = [shuffled[test + valid :], shuffled[test : test + valid], shuffled[:test]]
    ordered = [sorted(part, key=lambda entry: entry.name) for part in parts]
    return {**dict(zip(SPLITS, ordered, strict=True)), "all": entries}


def _read_splits(path: Path, names: set[str]) -> dict[str, list[str]]:
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); expected lists of names") from None
    if not isinstance(splits, dict):
        raise DataError(f"{path}: holds no object; expected lists of names, train, valid, test")
    seen: dict[str, str] = {}
    for part, members in splits.items():
        if part not in SPLITS:
            raise DataError(f"{path}: unknown split {part!r}; expected train, valid, test")
        if not isinstance(members, list):
            raise DataError(f"{path}: {part} is no list; expected a list of names")
        for name in members:
            if not isinstance(name, str) or name not in names:
                raise DataError(f"{path}: {part} names {name!r}; no such pair in {path.parent}")
            if name in seen:
                raise DataError(f"{path}: {name!r} is in {seen[name]} and {part}; expected in one")
            seen[name] = part
    train = splits.get("train", [])
    if not splits.get("valid"):  # else one would tune on the test part
        splits["valid"] = train[::10] if len(train) > 1 else []
        splits["train"] = [name for name in train if name not in splits["valid"]]
    return splits


def _read_roadscene(folder: Path) -> dict[str, list[Entry]]:
    sharp = folder / "crop_HR_visible"
    visible = sharp if sharp.is_dir() else folder / "crop_LR_visible"
    entries = _couple(visible, folder / "cropinfrared")
    names = json.loads(MANIFEST.read_text(encoding="utf-8"))["splits"]
    known = {name for part in names.values() for name in part}
    first_held_out = "FLIR_08863"  # where FLIR's validation part starts
    others = [e.name for e in entries if e.name not in known and e.name < first_held_out]
    return _split_by_name(entries, {**names, "train": sorted(names["train"] + others)})


def _read_flir_v1(folder: Path) -> dict[str, list[Entry]]:
    # By FLIR's ReadMe, 499 training and 109 validation frames have no visible one: left out.
    parts = []
    for part, couple in zip(("train", "val"), _LAYOUTS["flir-v1"], strict=True):
        visible, infrared = (folder / name for name in couple)
        parts.append(_couple(visible, infrared, partners=False) if _holds(folder, couple) else [])
        if _holds(folder, couple) and not parts[-1]:
            raise DataError(
                f"{folder / part}: no name is in RGB and thermal_8_bit; expected pairs"
            )
    return _flir_splits(*parts)


def _read_flir_v2(folder: Path) -> dict[str, list[Entry]]:
    """FLIR pairs the video part in a table; image frames pair where video and number agree."""
    train, val = (
        _couple_by_frame(folder / visible / "data", folder / infrared / "data")
        for visible, infrared in _LAYOUTS["flir-v2"][:2]
    )
    videos = _couple_by_table(folder)
    if not (train or val or videos):
        raise DataError(
            f"{folder}: no pair; expected rgb_to_thermal_vid_map.json with video_rgb_test and "
            "video_thermal_test, or equal video-…-frame-… names in images_rgb_*, images_thermal_*"
        )
    if not (train and val) and videos:
        # Whole videos are held out: neighbouring frames are all but equal.
        ids = sorted({_video_and_frame(entry.name)[0] for entry in videos})
        random.Random(SPLIT_SEED).shuffle(ids)
        held_out = set(ids[: max(1, len(ids) // 5)])
        val = val or [e for e in videos if _video_and_frame(e.name)[0] in held_out]
        train = train or [e for e in videos if _video_and_frame(e.name)[0] not in held_out]
    return _flir_splits(train, val)


def _video_and_frame(stem: str) -> tuple[str, str]:
    match = re.match(r"(video-.+?)-frame-(\d+)", stem)
    return (match[1], match[2]) if match else (stem, "")


def _couple_by_frame(visible: Path, infrared: Path) -> list[Entry]:
    if not (visible.is_dir() and infrared.is_dir()):
        return []
    right = {_video_and_frame(stem): path for stem, path in _frames(infrared).items()}
    frames = ((stem, path, _video_and_frame(stem)) for stem, path in _frames(visible).items())
    return [Entry(stem, path, right[key]) for stem, path, key in frames if key in right]


def _couple_by_table(folder: Path) -> list[Entry]:
    name = "rgb_to_thermal_vid_map.json"
    path = next((p for p in (folder / name, folder.parent / name) if p.is_file()), None)
    if path is None or not _holds(folder, _LAYOUTS["flir-v2"][2]):
        return []
    try:
        table = json.loads(path.read_text(encoding="utf-8")).items()
        visible, infrared = (folder / part / "data" for part in _LAYOUTS["flir-v2"][2])
        entries = [Entry(Path(v).stem, visible / v, infrared / i) for v, i in sorted(table)]
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: {error}; expected visible names to infrared names") from None
    for entry in entries:
        for frame in (entry.visible, entry.infrared):
            if not frame.is_file():
                raise DataError(f"{frame}: no such file; {name} expects it")
    return entries


def _flir_splits(train: list[Entry], val: list[Entry]) -> dict[str, list[Entry]]:
    """FLIR's own parts: test is 20 seeded pairs of `val`, valid is runs of frames of `train`."""
    rng = random.Random(SPLIT_SEED)
    test = rng.sample(val, min(TEST_PAIRS, len(val)))
    # Runs, because frames that follow each other are alike: single ones would leak into valid.
    run = min(20, max(1, len(train) // 20))
    starts = range(0, len(train), run)
    chosen = rng.sample(starts, min(10, max(1, len(starts) // 20)) if len(train) > 1 else 0)
    valid = {index for start in chosen for index in range(start, start + run)}
    return {
        "train": [entry for index, entry in enumerate(train) if index not in valid],
        "valid": [entry for index, entry in enumerate(train) if index in valid],
        "test": sorted(test, key=lambda entry: entry.name),
        "all": train + val,
    }


_READERS = {
    "flir-v1": _read_flir_v1,
    "flir-v2": _read_flir_v2,
    "roadscene": _read_roadscene,
    "plain": _read_plain,
}


# --- crops for training --------------------------------------------------------------------------


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
                image = _resize(image, (size, size), Image.Resampling.BICUBIC)
            crops.append(_to_float(image[:, ::-1] if mirror else image))
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


# --- download ------------------------------------------------------------------------------------


def fetch_roadscene(
    folder: str | Path,
    base_url: str | None = None,
    progress: bool = True,
    tries: int = 5,
    pause: float = 1.0,
) -> Path:
    """Download 196 pairs of RoadScene (20 MB) into `folder`, a plain layout with splits.json.

    Each file is checked against this package's manifest (size and SHA-256) and gets its name only
    when it is whole; what is there already is kept, and what was cut off goes on where it ended.

    Args:
        base_url: where `crop_HR_visible/` and `cropinfrared/` lie; None is the public repository.
        tries: how often a file may fail without getting on.
        pause: seconds to wait after the first failure, doubled after each further one.

    Raises:
        DataError: a file that is not there, has other bytes, or cannot be had or written.
    """
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    base_url = (base_url or manifest["base_url"]).rstrip("/")
    root = Path(folder)
    files = [
        _Wanted(f"{base_url}/{manifest['folders'][part]}/{name}", root / part / name, size, digest)
        for name, parts in manifest["files"].items()
        for part, (size, digest) in parts.items()
    ]
    total = sum(wanted.size for wanted in files)
    try:
        # First of all, so that a folder that is not complete yet cannot pass for another data set.
        _write_splits(root / "splits.json", manifest["splits"])
        bar = tqdm(total=total, unit="B", unit_scale=True, disable=not progress, desc="RoadScene")
        with requests.Session() as session, bar:
            for wanted in files:
                wanted.target.parent.mkdir(exist_ok=True)
                if not wanted.is_at(wanted.target):
                    _download(session, wanted, tries, pause)
                bar.update(wanted.size)
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot write ({error.strerror})") from None
    return root


def _write_splits(path: Path, splits: dict[str, list[str]]) -> None:
    text = json.dumps(splits, indent=1) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise DataError(f"{path}: of another data set; expected RoadScene's or none")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


@dataclass(frozen=True)
class _Wanted:
    """A file to fetch: where from, where to, and what tells that it is whole."""

    url: str
    target: Path
    size: int
    digest: str

    def is_at(self, path: Path) -> bool:
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() == self.digest


def _download(session: requests.Session, wanted: _Wanted, tries: int, pause: float) -> None:
    part = wanted.target.with_name(wanted.target.name + ".part")
    failures, reason = 0, ""
    while failures < tries:
        held = part.stat().st_size if part.exists() else 0
        try:
            reason = _append(session, wanted, part) if held < wanted.size else ""
        except requests.RequestException as error:
            if isinstance(error, ValueError):  # an address that can never work
                raise DataError(f"{wanted.url}: {error}") from None
            reason = f"connection failed ({type(error).__name__})"
        got = part.stat().st_size if part.exists() else 0
        if got >= wanted.size:
            if wanted.is_at(part):
                part.replace(wanted.target)
                return
            reason = f"other content; expected SHA-256 {wanted.digest[:16]}…"
            part.unlink()
        elif got > held:  # cut off, but it gets on
            continue
        failures += 1
        time.sleep(pause * 2 ** (failures - 1) if failures < tries else 0)
    raise DataError(f"{wanted.url}: {reason} after {tries} tries; fetch again to go on from here")


def _append(session: requests.Session, wanted: _Wanted, part: Path) -> str:
    """Fetch what `part` lacks; what went wrong, in words, if the rest may come."""
    held = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={held}-"} if held else {})}
    with session.get(wanted.url, headers=headers, stream=True, timeout=30) as answer:
        code = answer.status_code
        if code == 404:
            raise DataError(f"{wanted.url}: not found (HTTP 404); expected {wanted.size} bytes")
        if code == 416:  # nothing there to go on from
            part.unlink(missing_ok=True)
        if code not in (200, 206):
            return f"HTTP {code}"
        span = answer.headers.get("Content-Range", "")
        total = span.rpartition("/")[2] if code == 206 else answer.headers.get("Content-Length")
        if total and total.isdecimal() and int(total) != wanted.size:
            raise DataError(f"{wanted.url}: holds {total} bytes; expected {wanted.size}")
        went_on = code == 206 and span.startswith(f"bytes {held}-")
        answer.raw.enforce_content_length = False  # else urllib3 drops what came before a cut
        with part.open("ab" if went_on else "wb") as file:
            for chunk in answer.iter_content(1 << 16):
                file.write(chunk)
                if file.tell() > wanted.size:  # no more than was promised
                    break
            file.flush()
            os.fsync(file.fileno())
    return f"ended after {part.stat().st_size} of {wanted.size} bytes"
