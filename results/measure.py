"""Measure every number that the book prints: one JSON or CSV file each, in this folder.

    python results/measure.py                 all of them, as far as their data are there: hours
    python results/measure.py rd controls     these
    python results/measure.py --quick         two pairs, one or two λ, into _build/results: minutes

Thermal pairs are those of XMODAL_DATA, near-infrared ones those of XMODAL_NIR (folders with
`visible/` and `infrared/`). What needs data, or training runs (`--runs`), that are not there is
left as it is, and the output says so.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from xmodal_lite import LITE, evaluation, load_pretrained, save_weights
from xmodal_lite.benchmark import REFERENCE_SPEED, bench
from xmodal_lite.data import PairSource, open_pairs
from xmodal_lite.evaluation import contenders, evaluate
from xmodal_lite.frames import to_tensor
from xmodal_lite.pair_codec import Mode, PairCodec
from xmodal_lite.records import REFERENCES, ReferenceKind, save_results
from xmodal_lite.scenes import render_scene

HERE = Path(__file__).resolve().parent
CLASSICAL = ["hevc", "av1", "avif", "jpeg2000", "webp", "jpeg"]
ENDS = (LITE.lambdas[0], LITE.lambdas[-1])
CONTROLLED = (LITE.lambdas[0], LITE.lambdas[2])
"""λ of the controls, the lowest and the middle one."""


class NotHere(Exception):
    """Data or runs that a measurement needs are not on this machine."""


@dataclass(frozen=True)
class Bench:
    """Where to measure, and how much of it."""

    out: Path
    runs: Path
    quick: bool

    def pairs(self, name: str) -> PairSource:
        """Test pairs of ``"flir"``, ``"nir"`` or ``"scenes"``."""
        folder = "scenes"
        if name != "scenes":
            variable = {"flir": "XMODAL_DATA", "nir": "XMODAL_NIR"}[name]
            folder = os.environ.get(variable, "")
            if not folder:
                raise NotHere(f"{variable} names no folder")
        pairs = open_pairs(folder, "test")
        return pairs[:2] if self.quick else pairs

    def save(self, name: str, pairs: PairSource | None, records: list[Any], **about: Any) -> None:
        if pairs is not None:
            about["data"] = {"kind": pairs.kind, "split": pairs.split, "pairs": len(pairs)}
            records = [record.to_dict() for record in records]
        command = f"python results/measure.py {name}" + " --quick" * self.quick
        save_results(self.out / f"{name}.json", records, command, **about)

    def curves(
        self,
        name: str,
        data: str,
        codecs: Sequence[str],
        lambdas: Sequence[float] | None = None,
        weights: dict[str, list[str]] | None = None,
        limit: int | None = None,
        mode: Mode | Literal["auto"] = "auto",
        **about: Any,
    ) -> None:
        """Every codec on every pair at every λ, into ``name.json``.

        Where the encoder decides what a file uses of its reference, the same codec that always
        uses all of it is measured beside it.
        """
        pairs = self.pairs(data)[:limit]
        found = contenders(list(codecs), weights, ENDS if self.quick else lambdas, mode=mode)
        if mode == "auto":
            found += [
                replace(c, name=f"{c.name} (all)", mode="all")
                for c in found
                if isinstance(c.codec, PairCodec) and c.codec.config.uses_reference
            ]
        self.save(name, pairs, evaluate(found, pairs, estimate=True), **about)


def rd(where: Bench) -> None:
    """Rate and distortion on thermal frames: the paper's Figure 4."""
    where.curves("rd", "flir", ["pair", "alone", "minnen", *CLASSICAL])


def rd_nir(where: Bench) -> None:
    """The same codecs on near infrared."""
    where.curves("rd_nir", "nir", ["pair", "alone", "minnen", "hevc"])


def rd_scenes(where: Bench) -> None:
    """The same codecs on the embedded scenes."""
    where.curves("rd_scenes", "scenes", ["pair", "alone", "minnen", "hevc"], limit=8)


def reverse(where: Bench) -> None:
    """Roles swapped: visible frames given thermal ones, against the same codec in mode `none`."""
    _swapped(where, "reverse", "flir", estimate=True)


def reverse_nir(where: Bench) -> None:
    """The same given near infrared."""
    _swapped(where, "reverse_nir", "nir", estimate=True)


def controls_reverse(where: Bench) -> None:
    """Roles swapped on thermal pairs, with infrared references that cannot help."""
    _swapped(where, "controls_reverse", "flir", CONTROLLED, REFERENCES, "all")


def controls_reverse_nir(where: Bench) -> None:
    """The same on near infrared."""
    _swapped(where, "controls_reverse_nir", "nir", CONTROLLED, REFERENCES, "all")


def _swapped(
    where: Bench,
    name: str,
    data: str,
    lambdas: Sequence[float] | None = None,
    references: Sequence[ReferenceKind] = ("true",),
    mode: Mode | Literal["auto"] = "auto",
    estimate: bool = False,
) -> None:
    pairs = where.pairs(data)
    points = ENDS[:1] if where.quick else lambdas
    (referred,) = contenders(["reverse"], None, points, references, mode=mode)
    alone = replace(referred, name="reverse (none)", references=("true",), mode="none")
    where.save(name, pairs, evaluate([referred, alone], pairs, "visible", estimate))


def controls(where: Bench) -> None:
    """The pair codec with references that cannot help, at the lowest and a middle λ.

    It must use them: what its encoder would decline says nothing about the reference.
    """
    _wrong_references(where, "controls", "flir")


def controls_nir(where: Bench) -> None:
    """The same on near infrared."""
    _wrong_references(where, "controls_nir", "nir")


def controls_scenes(where: Bench) -> None:
    """The same on the embedded scenes."""
    _wrong_references(where, "controls_scenes", "scenes", 8)


def controls_auto(where: Bench) -> None:
    """Wrong references that the encoder may decline, on thermal pairs.

    Whoever keeps the cheapest of several files saves a little with any reference.
    """
    _wrong_references(where, "controls_auto", "flir", mode="auto")


def _wrong_references(
    where: Bench,
    name: str,
    data: str,
    limit: int | None = None,
    mode: Mode | Literal["auto"] = "all",
) -> None:
    pairs = where.pairs(data)[:limit]
    lambdas = ENDS if where.quick else CONTROLLED
    found = contenders(["pair", "alone"], None, lambdas, REFERENCES, mode=mode)
    where.save(name, pairs, evaluate(found, pairs))


def shared_detail(where: Bench) -> None:
    """How much detail the frames of a pair share, in place and with one of them moved aside."""
    records = []
    for name, limit in (("flir", None), ("nir", None), ("scenes", 8)):
        pairs = where.pairs(name)[:limit]
        for pair in pairs:
            visible, infrared = to_tensor(pair)
            aside = visible.roll(visible.shape[3] // 3, 3)  # far: chapter 1's peak is some pixels
            alike = [evaluation.shared_detail(frame, infrared) for frame in (visible, aside)]
            records.append({"set": name, "pair": pair.name,
                            "own": alike[0], "aside": alike[1]})  # fmt: skip
    where.save("shared_detail", None, records)


def coefficients(where: Bench) -> None:
    """One set of weights with γ and β in each wire format."""
    codec = load_pretrained("pair")
    assert isinstance(codec, PairCodec)
    with tempfile.TemporaryDirectory() as folder:
        weights = {}
        for form in ("float32", "float16", "int8"):
            path = Path(folder) / f"{form}.safetensors"
            other = PairCodec(replace(codec.config, coefficient_format=form))
            other.load_state_dict(codec.state_dict())
            save_weights(other, path)
            weights[form] = [str(path)]
        where.curves("coefficients", "flir", [*weights], CONTROLLED, weights, 10, "all")


def from_runs(
    where: Bench, name: str, data: str, runs: dict[str, list[str]], **about: Any
) -> None:
    """A comparison of codecs that were trained for it and are not shipped."""
    weights = {
        codec: [str(where.runs / run / "weights.safetensors") for run in folders]
        for codec, folders in runs.items()
    }
    missing = [path for paths in weights.values() for path in paths if not Path(path).is_file()]
    if missing:
        raise NotHere(f"no run {Path(missing[0]).parent.name}: results/training_log.md trains it")
    where.curves(name, data, [*runs], None, weights, mode="all", **about)


def ablations(where: Bench) -> None:
    """Which branch is worth what, on near infrared: runs of equal length over one baseline."""
    names = ("alone", "channel", "spatial", "entropy", "both", "pair")
    from_runs(where, "ablations", "nir", {name: [f"ablation_{name}"] for name in names})


def variable_rate(where: Bench) -> None:
    """One gained model against one model a λ: runs of equal length from one start."""
    pairs = where.pairs("flir")[:10]
    records = []
    for run, points in (("gained", LITE.lambdas), ("512", (512.0,)), ("2048", (2048.0,))):
        weights = where.runs / f"rate_{run}" / "weights.safetensors"
        if not weights.is_file():
            raise NotHere(f"no {weights}: results/training_log.md trains it")
        name = "gained" if run == "gained" else "single"
        found = contenders([name], {name: [str(weights)]}, points)
        records += evaluate(found, pairs, estimate=True)
    where.save("variable_rate", pairs, records)


def speed(where: Bench) -> None:
    """Seconds, memory and multiply-adds by stage, one thread, beside CompressAI's mbt2018."""
    scene = render_scene(0, *((128, 160) if where.quick else (512, 640)))
    names = ["pair", REFERENCE_SPEED] if where.quick else ["pair", "paper", REFERENCE_SPEED]
    records = [bench(n, scene.visible, scene.infrared, 1024, 1, 1) for n in names]  # one run each
    where.save("speed", None, records)


def training(where: Bench) -> None:
    """Loss and validation curves of the runs behind the shipped weights, thinned to 300 rows.

    Earlier runs that are no longer here keep the rows that they have.
    """
    if not any(where.runs.glob("*/train.csv")):
        raise NotHere(f"{where.runs} holds no training runs")
    for source, target in (("train.csv", "training.csv"), ("valid.csv", "validation.csv")):
        found = sorted(where.runs.glob(f"*/{source}"))
        here = {path.parent.name for path in found}
        rows: list[dict[str, Any]] = []
        if (where.out / target).exists():
            with (where.out / target).open(newline="") as file:
                rows += [row for row in csv.DictReader(file) if row["run"] not in here]
        for path in found:
            with path.open(newline="") as file:
                run = [{"run": path.parent.name} | row for row in csv.DictReader(file)]
            rows += _thinned(run) if source == "train.csv" else run
        with (where.out / target).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(sorted(rows, key=lambda row: row["run"]))


def _thinned(rows: list[dict[str, str]], most: int = 300) -> list[dict[str, str]]:
    """Means over blocks of steps: λ is drawn anew at each step, single losses are mostly that."""
    block = -(-len(rows) // most)
    means = []
    for first in range(0, len(rows), block):
        group = rows[first : first + block]
        mean = {"run": group[-1]["run"], "step": group[-1]["step"]}
        for name in group[-1].keys() - mean.keys():
            mean[name] = f"{sum(float(row[name]) for row in group) / len(group):.6g}"
        means.append({name: mean[name] for name in group[-1]})
    return means


MEASUREMENTS: tuple[Callable[[Bench], None], ...] = (
    rd, rd_nir, rd_scenes, reverse, reverse_nir, controls, controls_nir, controls_scenes,
    controls_auto, controls_reverse, controls_reverse_nir, shared_detail, coefficients,
    ablations, variable_rate, speed, training,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = [measure.__name__ for measure in MEASUREMENTS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    parser.add_argument("--quick", action="store_true", help="two pairs, one or two λ, in minutes")
    parser.add_argument("--out", type=Path, help="folder of the results (default: this one)")
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs", help="training runs")
    args = parser.parse_args(arguments)
    if unknown := sorted({*args.names} - {*known}):
        parser.error(f"no measurement {unknown[0]!r}; expected some of {', '.join(known)}")
    out = args.out or (HERE.parent / "_build" / "results" if args.quick else HERE)
    out.mkdir(parents=True, exist_ok=True)
    where = Bench(out, args.runs, args.quick)
    done = 0
    for measure in MEASUREMENTS:
        if args.names and measure.__name__ not in args.names:
            continue
        try:
            measure(where)
        except NotHere as reason:
            print(f"{measure.__name__}: not measured, {reason}")
        else:
            done += 1
            print(f"{measure.__name__}: measured into {out.name}/")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
