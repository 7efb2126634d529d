"""Download: RoadScene from its public repository, each file checked, never half of one."""

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm.auto import tqdm

from .data import MANIFEST
from .frames import DataError


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
