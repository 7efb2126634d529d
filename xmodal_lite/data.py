"""Data: the pairs of a folder and their splits, or the embedded scenes (chapter 1).

A folder is recognised by what it holds: FLIR ADAS v1.3 and v2, RoadScene, or plain `visible/` and
`infrared/`. A pair is read, and its frames are checked, when it is asked for.
"""

import json
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from .frames import DataError, Pair, read_pair

SPLITS = ("train", "valid", "test")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
TEST_PAIRS = 20  # the paper tests on 20 pairs of FLIR's validation part
SPLIT_SEED = 0
SCENE_SEEDS = {"train": range(1000, 1160), "valid": range(100, 112), "test": range(20)}
MANIFEST = Path(__file__).with_name("roadscene.json")


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
