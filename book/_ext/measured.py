"""Numbers of `results/` for pages that run no code: `{{ rate_flir }}` in their text.

Each is computed when the book is built, so that no page can quote a measurement that is not there.
"""

import json
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

from xmodal_lite.curves import bd_table, mean_cost, mean_curves
from xmodal_lite.plots import signed
from xmodal_lite.records import load_measurements

RESULTS = Path(__file__).parents[2] / "results"


def numbers(results: Path = RESULTS) -> dict[str, str]:
    """What pages may quote, ready to print.

    Returns:
        ``rate_*`` (%) and ``psnr_*`` (dB): the pair codec against the same network without its
        reference, on ``flir``, ``nir`` and ``scenes``; ``must_*`` (%): the same codec where it
        must use its reference. ``wire_bytes``, ``wire_rate`` (%) and ``wire_psnr`` (dB): γ and β
        in 8 bits against float32, at λ = 256. ``shared_512`` and ``shared_2048`` (%): cost of one
        model for every λ against one for this λ. ``serial_seconds``, ``parallel_seconds``:
        entropy decoding of `paper` and of `pair`.
    """
    found = {}
    for name, stem in (("flir", "rd"), ("nir", "rd_nir"), ("scenes", "rd_scenes")):
        rows = {r.codec: r for r in bd_table(load_measurements(results / f"{stem}.json"), "alone")}
        found[f"rate_{name}"] = signed(rows["pair"].mean.rate, "+.1f")
        found[f"psnr_{name}"] = signed(rows["pair"].mean.psnr)
        found[f"must_{name}"] = signed(rows["pair (all)"].mean.rate, "+.1f")
    wire = mean_curves(load_measurements(results / "coefficients.json"))
    before, after = (next(r for r in wire[k] if r["point"] == 256) for k in ("float32", "int8"))
    found["wire_bytes"] = signed(after["bytes"] - before["bytes"], "+.0f")
    found["wire_rate"] = signed(100 * (after["bytes"] / before["bytes"] - 1))
    found["wire_psnr"] = signed(after["psnr"] - before["psnr"], "+.3f")
    shared = load_measurements(results / "variable_rate.json")
    for lmbda in (512, 2048):
        change = mean_cost(shared, "gained", lmbda) / mean_cost(shared, "single", lmbda) - 1
        found[f"shared_{lmbda}"] = signed(100 * change, "+.1f")
    speed = json.loads((results / "speed.json").read_text())["records"]
    for key, codec in (("serial_seconds", "paper"), ("parallel_seconds", "pair")):
        (record,) = (r for r in speed if r["codec"] == codec)
        (stage,) = (s for s in record["stages"] if s["stage"] == "entropy decode")
        found[key] = f"{stage['seconds']:.2f}"
    return found


def add(app: Sphinx, config: Config) -> None:
    """Hand them to MyST, beside the substitutions of the configuration."""
    config.myst_substitutions = {**numbers(), **(config.myst_substitutions or {})}


def setup(app: Sphinx) -> dict[str, Any]:
    """Before MyST reads its configuration."""
    app.connect("config-inited", add)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
