"""The command line: what each command does, and one line for whatever goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, frames, run_python, tiny_image_codec, tiny_pair_codec, write_pairs
from PIL import Image

import xmodal_lite
from xmodal_lite import baselines, cli_common, coding, evaluation, pretrained
from xmodal_lite.bitstream import section_sizes, unpack
from xmodal_lite.cli import main
from xmodal_lite.coding import psnr_image, target_bytes
from xmodal_lite.image_codec import fingerprint
from xmodal_lite.pair_codec import Encoded
from xmodal_lite.pretrained import load_weights, save_weights
from xmodal_lite.records import load_measurements

COMMANDS = ("fetch", "train", "evaluate", "encode", "decode", "info", "bench")


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A folder with frames, pairs, and weights of tiny codecs."""
    folder = tmp_path_factory.mktemp("house")
    visible, infrared = frames(40, 50)
    Image.fromarray(visible).save(folder / "visible.png")
    Image.fromarray(infrared).save(folder / "infrared.png")
    write_pairs(folder / "pairs", 4)
    splits = {"train": ["pair_0"], "valid": ["pair_3"], "test": ["pair_1", "pair_2"]}
    (folder / "pairs" / "splits.json").write_text(json.dumps(splits))
    save_weights(tiny_pair_codec(), folder / "pair.safetensors", half=True)
    alone = tiny_pair_codec(channel_alignment=False, spatial_alignment=False)
    save_weights(alone, folder / "alone.safetensors")
    save_weights(tiny_image_codec("visible"), folder / "visible.safetensors")
    codec = load_weights(folder / "pair.safetensors")
    (folder / "pair.xmc").write_bytes(codec.compress(visible, infrared, 512, mode="all"))
    return folder


@pytest.fixture
def run(house, monkeypatch, capsys):
    """`run("info", …)` in the house: exit code, stdout, stderr without progress bars."""
    monkeypatch.chdir(house)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def shipped(house, monkeypatch):
    """The tiny codecs as if the package shipped them."""
    monkeypatch.setattr(cli_common, "WEIGHTS", house)
    monkeypatch.setattr(pretrained, "WEIGHTS", house)
    sums = ""
    for path in sorted(house.glob("*.safetensors")):
        digest = __import__("hashlib").sha256(path.read_bytes()).hexdigest()
        sums += f"{digest}  {path.name}\n"
    (house / "SHA256SUMS").write_text(sums)


def encode(run, *more, output="new.xmc", weights="pair.safetensors"):
    frames = ("visible.png", "infrared.png")
    return run("encode", *frames, "-o", output, "--weights", weights, *more)


# --- encode, decode, info ------------------------------------------------------------------------


def test_a_pair_goes_in_and_comes_back_as_the_encoder_said(run, house, tmp_path):
    code, out, err = encode(run, "--lmbda", 700, output=tmp_path / "a.xmc")
    assert (code, err) == (0, "")
    data = (tmp_path / "a.xmc").read_bytes()
    assert unpack(data)[0].infrared_lmbda == 700
    code, printed, err = run(
        "decode", tmp_path / "a.xmc", "-o", tmp_path / "new" / "out", "--weights",
        "pair.safetensors",
    )  # fmt: skip
    assert (code, err) == (0, "")
    visible, infrared = frames(40, 50)
    own = target_bytes(data, "infrared")
    for name, image, size in (
        ("visible", visible, len(data) - own),
        ("infrared", infrared, own),
    ):
        decoded = np.asarray(Image.open(tmp_path / "new" / "out" / f"{name}.png"))
        assert decoded.shape == image.shape and f"{name}.png" in printed
        (line,) = (line.split() for line in out.splitlines() if line.startswith(name))
        height, width = image.shape[:2]
        assert line[1:] == [
            f"{width}×{height}",
            str(size),
            f"{8 * size / (height * width):.4f}",
            f"{psnr_image(image, decoded):.2f}",
        ]
    assert f"{len(data)} bytes at λ = 700" in out


def test_encode_brings_the_visible_frame_to_twice_the_infrared_size(run, house, tmp_path):
    small = Image.open(house / "visible.png").resize((90, 70))
    small.save(tmp_path / "small.png")
    code, out, _ = run(
        "encode", tmp_path / "small.png", "infrared.png", "-o", tmp_path / "a.xmc",
        "--weights", "pair.safetensors",
    )  # fmt: skip
    assert code == 0 and "100×80" in out


def test_weights_that_code_one_image_take_one_frame(run, tmp_path):
    for weights, frame in (("alone", "infrared"), ("visible", "visible")):
        given = ("-o", tmp_path / "a.xmc", "--weights", f"{weights}.safetensors")
        code, out, _ = run("encode", f"{frame}.png", *given)
        assert code == 0 and f"\n{frame}" in out
        given = ("-o", tmp_path, "--weights", f"{weights}.safetensors")
        assert run("decode", tmp_path / "a.xmc", *given)[0] == 0
        assert (tmp_path / f"{frame}.png").is_file()


def test_only_decodes_and_writes_that_one(run, tmp_path):
    given = ("-o", tmp_path, "--weights", "pair.safetensors")
    assert run("decode", "pair.xmc", "--only", "visible", *given)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["visible.png"]


def test_only_visible_does_not_look_at_the_rest(run, house, tmp_path):
    data = bytearray((house / "pair.xmc").read_bytes())
    sizes = section_sizes(bytes(data))
    place = sum(sizes[k] for k in ("header", "visible_z", "visible_y", "coefficients")) + 12
    data[place] ^= 255  # inside infrared z
    (tmp_path / "hurt.xmc").write_bytes(data)
    given = ("-o", tmp_path / "out", "--weights", "pair.safetensors")
    assert run("decode", tmp_path / "hurt.xmc", "--only", "visible", *given)[0] == 0
    code, _, err = run("decode", tmp_path / "hurt.xmc", *given)
    assert code == 2 and "hurt.xmc: byte" in err and "INFRARED_Z is damaged" in err


def test_decode_finds_the_shipped_weights_that_wrote_the_file(run, shipped, tmp_path):
    assert run("decode", "pair.xmc", "-o", tmp_path)[0] == 0
    assert (tmp_path / "infrared.png").is_file()


def test_info_tells_what_the_file_holds(run, house, shipped):
    code, out, err = run("info", "pair.xmc")
    data = (house / "pair.xmc").read_bytes()
    assert (code, err) == (0, "")
    assert f"pair.xmc: {len(data)} bytes, version 1" in out
    assert "visible: 100×80 at λ = 512, the reference" in out
    assert "infrared: 50×40 at λ = 512, the target" in out
    assert "context checkerboard, coefficients int8" in out
    assert "shipped as 'pair'" in out
    rows = dict(re.findall(r"^(\w+) +(\d+) +[\d.]+ +[\d.]+$", out, re.M))
    assert {name: int(size) for name, size in rows.items()} == section_sizes(data)
    shares = re.findall(r"^\w+ +\d+ +([\d.]+) +[\d.]+$", out, re.M)
    assert sum(map(float, shares)) == pytest.approx(100, abs=0.5)


MODES = {
    "none": ("the reference is not used", ", coded by itself", "none"),
    "space": ("the reference is used without coefficients", ", the target", "none"),
    "all": ("the reference is used", ", the target", "int8"),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_can_be_asked_for_and_is_told(mode, run, tmp_path):
    said, role, coefficients = MODES[mode]
    code, out, _ = encode(run, "--mode", mode, output=tmp_path / "a.xmc")
    assert code == 0 and out.rstrip().endswith(said)
    _, out, _ = run("info", tmp_path / "a.xmc")
    assert f"infrared: 50×40 at λ = 1024{role}\n" in out
    assert f"coefficients {coefficients}\n" in out
    target = ("-o", tmp_path, "--weights", "pair.safetensors", "--only", "infrared")
    assert run("decode", tmp_path / "a.xmc", *target)[0] == 0


def test_the_mode_that_costs_least_is_taken_unless_one_is_asked_for(run, tmp_path):
    files = {}
    for mode in ("auto", *MODES):
        assert encode(run, "--mode", mode, output=tmp_path / f"{mode}.xmc")[0] == 0
        files[mode] = (tmp_path / f"{mode}.xmc").read_bytes()
    assert encode(run, output=tmp_path / "plain.xmc")[0] == 0
    assert (tmp_path / "plain.xmc").read_bytes() == files.pop("auto") in files.values()
    assert len({*files.values()}) == 3
    code, _, err = run("encode", "infrared.png", "-o", tmp_path / "b.xmc", "--weights",
                       "alone.safetensors", "--mode", "all")  # fmt: skip
    assert code == 2 and "mode 'all'; expected auto or one of none" in err
    code, _, err = run("encode", "visible.png", "-o", tmp_path / "b.xmc", "--weights",
                       "visible.safetensors", "--mode", "none")  # fmt: skip
    assert code == 2 and "mode 'none'; expected auto, this codec has no reference" in err


def test_info_says_when_the_weights_are_not_shipped(run, house, monkeypatch, tmp_path):
    monkeypatch.setattr(cli_common, "WEIGHTS", tmp_path)
    assert "none of the shipped" in run("info", "pair.xmc")[1]
    code, _, err = run("decode", "pair.xmc", "-o", tmp_path)
    assert code == 2 and "none of the shipped; name their file with --weights" in err


def test_a_fingerprint_without_pytorch_is_the_codecs_own(house):
    for path in house.glob("*.safetensors"):
        assert cli_common._fingerprint(path) == fingerprint(load_weights(path))


def test_quick_answers_do_not_wait_for_pytorch(house):
    code = """
import io, sys
from contextlib import redirect_stdout
import xmodal_lite
from xmodal_lite.cli import main
with redirect_stdout(io.StringIO()):
    assert main(["info", sys.argv[1]]) == 0
    for command in [[], *([name] for name in sys.argv[2:])]:
        try:
            main([*command, "--help"])
        except SystemExit as end:
            assert end.code in (0, None)
print(sorted({"torch", "compressai", "matplotlib"} & set(sys.modules)))
"""
    assert run_python(code, house / "pair.xmc", *COMMANDS).strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_command_does(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert not end.value.code
    out = capsys.readouterr().out
    assert out.startswith(f"usage: xmodal-lite {name}") and len(out.splitlines()) > 6


def test_help_names_every_classical_codec(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"classical codecs: {', '.join(baselines.CODECS)}" in text


def test_version_is_the_packages(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"xmodal-lite {xmodal_lite.__version__}\n"


# --- evaluate, train, bench, fetch ---------------------------------------------------------------


def test_evaluate_writes_records_and_prints_tables(run, tmp_path):
    code, out, err = run(
        "evaluate", "--data", "pairs", "--codecs", "pair,mine,jpeg", "--json", tmp_path / "o.json",
        "--weights", "pair=pair.safetensors", "--weights", "mine=alone.safetensors",
        "--reference", "true", "blank", "--anchor", "mine", "--lmbda", 256, 1024, "--estimate",
    )  # fmt: skip
    assert code == 0, err
    records = load_measurements(tmp_path / "o.json")
    jpeg = len(baselines.CODECS["jpeg"].settings)
    assert len(records) == 2 * (2 * 2 + 2 + jpeg)
    assert {r.pair for r in records} == {"pair_1", "pair_2"}
    written = json.loads((tmp_path / "o.json").read_text())
    assert written["command"].startswith("python -m xmodal_lite evaluate --data pairs")
    assert written["data"] == {"kind": "plain", "split": "test", "pairs": 2}
    assert "2 pairs of plain (test), infrared" in out
    row = re.search(r"^pair \(blank\) +1024 +(\d\.\d{4}) +\d", out, re.M)
    blank = [r.bpp for r in records if r.reference == "blank" and r.lmbda == 1024]
    assert float(row[1]) == pytest.approx(sum(blank) / 2, abs=1e-4)
    assert {r.mode for r in records if r.codec == "pair"} <= {"none", "space", "all"}
    assert {r.mode for r in records if r.codec != "pair"} == {None}
    table = out[out.index("Against mine") :]
    assert re.search(r"^pair \(blank\) ", table, re.M) and re.search(r"^jpeg ", table, re.M)


def test_evaluate_of_one_codec_has_nothing_to_compare(run):
    code, out, _ = run("evaluate", "--data", "pairs", "--codecs", "jpeg", "--limit", 1)
    assert code == 0 and "1 pair of plain" in out and "Against" not in out


def test_evaluate_takes_the_shipped_codecs_that_there_are(run, shipped, monkeypatch):
    asked = []

    def contenders(names, *_):
        asked.extend(names)
        raise ValueError("enough")

    monkeypatch.setattr(evaluation, "contenders", contenders)
    assert run("evaluate", "--data", "pairs")[0] == 2
    assert asked == ["pair", "alone", "hevc", "jpeg2000"]


def test_train_makes_weights_that_encode(run, tmp_path):
    train = (
        "train", "--stage", "infrared", "--steps", 2, "--batch", 2, "--crop", 64, "--every", 1,
        "--data", "pairs", "--lmbda", 1024, "--out", tmp_path / "run",
    )  # fmt: skip
    code, out, _ = run(*train)
    assert code == 0 and "weights.safetensors holds the trained codec" in out
    codec = load_weights(tmp_path / "run" / "weights.safetensors")
    assert codec.modality == "infrared" and codec.config.lambdas == (1024,)
    before = (tmp_path / "run" / "train.csv").read_text()
    assert run(*train)[0] == 0  # already done: nothing is trained twice
    assert (tmp_path / "run" / "train.csv").read_text() == before
    code, _, err = run(*train, "--batch", 1)
    assert code == 2 and err.count("\n") == 1 and "batch was 2, is 1" in err


def test_train_builds_the_codec_that_was_asked_for(run, monkeypatch, tmp_path):
    from xmodal_lite import stages

    asked = {}

    def build(codec_config, stage, *weights):
        asked.update(config=codec_config, stage=stage, weights=weights)
        raise ValueError("enough")

    monkeypatch.setattr(stages, "build_codec", build)
    code, _, err = run(
        "train", "--stage", "pair", "--out", tmp_path, "--preset", "paper", "--target", "visible",
        "--without", "channel", "--with", "entropy", "--context", "checkerboard", "--lmbda", 300,
        "--coefficients", "float16", "--visible", "visible.safetensors", "--start", "x",
        "--branches", "y",
    )  # fmt: skip
    assert (code, err) == (2, "xmodal-lite: error: enough\n")
    got = asked["config"]
    assert (got.name, got.target, got.context) == ("paper", "visible", "checkerboard")
    assert (got.channel_alignment, got.spatial_alignment) == (False, True)
    assert got.entropy_reference and got.lambdas == (300,)
    assert got.coefficient_format == "float16"
    assert asked["weights"] == ("visible.safetensors", "x", "y")


def test_bench_prints_costs_and_stages(run, monkeypatch, tmp_path):
    from xmodal_lite import benchmark

    # in this process: starting another one is tested with the module
    monkeypatch.setattr(benchmark, "in_own_process", lambda function, *a: function(*a))
    threads = torch.get_num_threads()
    code, out, _ = run(
        "bench", "pair.safetensors", "--size", "64x64", "--repeat", 1, "--without-mbt2018",
        "--json", tmp_path / "b.json", "--threads", 1,
    )  # fmt: skip
    torch.set_num_threads(threads)
    assert code == 0 and "cpu, 1 thread, median of 1" in out
    for stage in ("visible encode", "visible decode", "analysis", "synthesis", "total decode"):
        assert re.search(
            rf"^pair.safetensors +64×64 +{stage}( +\d+\.\d+){{2}} +\d+ +\d", out, re.M
        )
    (record,) = json.loads((tmp_path / "b.json").read_text())["records"]
    assert record["parameters"] > record["reference_parameters"] > 0


def test_fetch_hands_the_folder_on(run, monkeypatch, tmp_path):
    from xmodal_lite import download

    monkeypatch.setattr(download, "fetch_roadscene", lambda folder: folder)
    code, out, _ = run("fetch", tmp_path / "road scene")
    assert code == 0 and f"--data '{tmp_path / 'road scene'}'" in out


# --- what goes wrong -----------------------------------------------------------------------------

ENCODE = "encode visible.png infrared.png -o new.xmc --weights pair.safetensors"
EVALUATE = "evaluate --data pairs --codecs jpeg"
TRAIN = "train --stage visible --out run"

ERRORS = {
    "no command": ("", "required: COMMAND"),
    "unknown command": ("compress", "invalid choice: 'compress'"),
    "unknown option": (f"{ENCODE} --quality 3", "unrecognized arguments: --quality 3"),
    "λ not a number": (f"{ENCODE} --lmbda nan", "--lmbda: 'nan'; expected a number"),
    "λ a word": (f"{ENCODE} --lmbda much", "--lmbda: 'much'; expected a number"),
    "λ too low": (f"{ENCODE} --lmbda 255", "λ is 255; expected between 256 and 4096"),
    "λ too high": (f"{ENCODE} --reference-lmbda 1e9", "λ is 1e+09; expected between 256"),
    "no frame": (ENCODE.replace("infrared", "gone"), "gone.png: no such file"),
    "not a frame": (ENCODE.replace("infrared.png", "pair.xmc"), "pair.xmc: unreadable"),
    "one frame for two": (ENCODE.replace("visible.png ", ""), "take two frames, VISIBLE and IN"),
    "two frames for one": (ENCODE.replace("pair.saf", "alone.saf"), "take one, INFRARED; got 2"),
    "other aspect": ("encode wide.png infrared.png -o new.xmc --weights pair.safetensors",
                     "differ in aspect ratio"),
    "no weights": (ENCODE.replace("pair.saf", "gone.saf"), "gone.safetensors: no such weights"),
    "unknown weights": (ENCODE.replace("pair.safetensors", "best"), "no weights 'best'; shipped"),
    "weights of noise": (ENCODE.replace("pair.saf", "noise.saf"), "noise.safetensors: not a read"),
    "reference λ of nothing": ("encode infrared.png -o new.xmc --weights alone.safetensors "
                               "--reference-lmbda 512", "code no reference"),
    "no output folder": (ENCODE.replace("new.xmc", "no/new.xmc"), "no/new.xmc: cannot be written"),
    "output is a folder": (ENCODE.replace("new.xmc", "pairs"), "pairs: is a folder"),
    "no device": (f"{ENCODE} --device cuda", "device 'cuda' is not there"),
    "no threads": (f"{ENCODE} --threads 0", "--threads: '0'; expected a whole number"),
    "no stream": ("info gone.xmc", "gone.xmc: No such file or directory"),
    "stream is a folder": ("info pairs", "pairs: Is a directory"),
    "not a stream": ("info visible.png", "visible.png: byte 0: not an .xmc stream"),
    "cut stream": ("decode cut.xmc -o out", "cut.xmc: byte"),
    "cut stream's info": ("info cut.xmc", "cut.xmc: byte"),
    "empty stream": ("info empty.xmc", "empty.xmc: byte 0: the stream is empty"),
    "another model": ("decode pair.xmc -o out --weights alone.safetensors", "pair.xmc: the stream "
                      "holds visible and infrared; this codec reads infrared"),
    "not in the stream": ("decode alone.xmc -o out --only visible", "no visible image in this"),
    "output is a file": ("decode pair.xmc -o visible.png --weights pair.safetensors",
                         "visible.png: File exists"),
    "unknown codec": (f"{EVALUATE},png", "unknown codec 'png'; expected some of hevc"),
    "codec twice": (f"{EVALUATE},jpeg", "codec 'jpeg' is named twice"),
    "no codec": ("evaluate --codecs ,", "--codecs: no names"),
    "half a weight": (f"{EVALUATE} --weights mine=", "'mine='; expected NAME=FILE"),
    "weights of nobody": (f"{EVALUATE} --weights a=alone.safetensors", "weights are given for a"),
    "no data": (EVALUATE.replace("pairs", "gone"), "gone: no such folder"),
    "no split": (f"{EVALUATE} --split best", "split 'best': unknown"),
    "limit of none": (f"{EVALUATE} --limit 0", "--limit: '0'; expected a whole number"),
    "anchor not measured": (f"{EVALUATE} --anchor hevc", "anchor 'hevc' is not measured"),
    "range upside down": (f"{EVALUATE} --range 0.6 0.1", "--range 0.6 0.1; expected 0 < LOW"),
    "json nowhere": (f"{EVALUATE} --json no/o.json", "no/o.json: cannot be written"),
    "wrong target": ("evaluate --data pairs --codecs a --weights a=alone.safetensors --target "
                     "visible", "codes infrared; expected visible"),
    "control of one": ("evaluate --data pairs --codecs a --weights a=pair.safetensors --limit 1 "
                       "--reference other", "at least two pairs"),
    "unknown preset": (f"{TRAIN} --preset huge", "unknown preset 'huge'; expected one of"),
    "unknown stage": ("train --stage last --out run", "invalid choice: 'last'"),
    "training λ": (f"{TRAIN} --lmbda nan", "--lmbda: 'nan'; expected a number"),
    "negative λ": (f"{TRAIN} --lmbda -5", "lambdas"),
    "crop of no tiles": (f"{TRAIN} --crop 100", "crop 100; expected a multiple of 64"),
    "λ range": (f"{TRAIN} --lmbda-range 9 99", "λ is 9; expected between 256 and 4096"),
    "λ range upside down": (f"{TRAIN} --lmbda-range 999 300", "expected the lower end first"),
    "with and without": (f"{TRAIN} --with channel --without channel", "both in --with and"),
    "pair without visible": ("train --stage pair --out run", "needs the weights of a trained"),
    "no training data": (f"{TRAIN} --data gone", "gone: no such folder"),
    "run is a file": ("train --stage infrared --data pairs --out visible.png", "visible.png"),
    "unknown bench": ("bench huge", "unknown codec 'huge'; expected lite, paper, mbt2018"),
    "bench size": ("bench --size 640", "--size: '640'; expected WIDTHxHEIGHT"),
    "fetch into a file": ("fetch visible.png", "visible.png"),
}  # fmt: skip


@pytest.fixture
def broken(house):
    """Files that are not what they should be; and nothing may be left behind by an error."""
    data = (house / "pair.xmc").read_bytes()
    (house / "cut.xmc").write_bytes(data[:200])
    (house / "empty.xmc").write_bytes(b"")
    (house / "noise.safetensors").write_bytes(bytes(range(256)))
    Image.fromarray(np.zeros((60, 200, 3), np.uint8)).save(house / "wide.png")
    codec = load_weights(house / "alone.safetensors")
    (house / "alone.xmc").write_bytes(codec.compress(None, frames(40, 50)[1], 512))
    before = sorted(house.rglob("*"))
    yield
    assert sorted(p for p in house.rglob("*") if "run" not in p.parts) == before
    (house / "noise.safetensors").unlink()


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_line_and_code_2(case, run, broken, monkeypatch):
    line, expected = ERRORS[case]
    if case == "no device":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, out, err = run(*line.split())
    assert (code, out) == (2, "")
    assert err.startswith("xmodal-lite: error: ") and err.count("\n") == 1
    assert expected in err


def test_a_missing_package_is_one_line(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "xmodal_lite.scenes", None)
    monkeypatch.delenv("XMODAL_DATA", raising=False)
    code, _, err = run("evaluate", "--codecs", "jpeg", "--limit", 1)
    assert code == 2 and "xmodal_lite.scenes" in err and err.count("\n") == 1


def test_a_full_disk_is_one_line_and_keeps_the_old_file(run, house, monkeypatch, tmp_path):
    (tmp_path / "old.xmc").write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = encode(run, output=tmp_path / "old.xmc")
    assert code == 2 and "old.xmc: cannot be written (No space left on device)" in err
    assert [p.name for p in tmp_path.iterdir()] == ["old.xmc"]
    assert (tmp_path / "old.xmc").read_bytes() == b"old"


@pytest.mark.parametrize("moment", ["coding", "writing"])
def test_ctrl_c_leaves_nothing_half_written(moment, run, house, monkeypatch, tmp_path):
    def interrupt(*_):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
        signal.raise_signal(signal.SIGINT)

    if moment == "coding":
        monkeypatch.setattr(coding, "code", interrupt)
    else:
        monkeypatch.setattr(os, "fsync", interrupt)
    code, out, err = encode(run, output=tmp_path / "a.xmc")
    assert (code, out, err) == (130, "", "xmodal-lite: interrupted\n")
    assert not list(tmp_path.iterdir())


def test_evaluate_interrupted_writes_no_results(run, monkeypatch, tmp_path):
    def interrupt(*_, **__):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(evaluation, "measure_classical", interrupt)
    code, _, err = run(*EVALUATE.split(), "--json", tmp_path / "o.json")
    assert code == 130 and err.endswith("xmodal-lite: interrupted\n")
    assert not list(tmp_path.iterdir())


def test_the_console_shows_one_line_too(house):
    """A process of its own: no library's warning gets between."""
    command = [sys.executable, "-m", "xmodal_lite", *ENCODE.split(), "--lmbda", "5"]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(
        command, cwd=house, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "xmodal-lite: error: λ is 5; expected between 256 and 4096\n"


def test_a_reader_that_leaves_early_is_no_error(house):
    command = f"{sys.executable} -m xmodal_lite info pair.xmc | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == "" and done.stdout.endswith("\n0\n")


# --- the package's front door --------------------------------------------------------------------


def test_the_package_hands_out_its_names():
    for name in xmodal_lite.__all__:
        assert getattr(xmodal_lite, name) is not None
    assert set(xmodal_lite.__all__) <= set(dir(xmodal_lite))
    assert xmodal_lite.load_pretrained is pretrained.load_pretrained
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        xmodal_lite.nothing  # noqa: B018


def test_encode_uses_what_evaluate_measures(run, monkeypatch, tmp_path):
    """One function codes for both commands."""
    coded = []
    code = coding.code
    assert evaluation.code is code

    def spy(*arguments):
        coded.append(code(*arguments))
        return coded[-1]

    monkeypatch.setattr(coding, "code", spy)
    encode(run, output=tmp_path / "a.xmc")
    assert isinstance(coded[0], Encoded)
    assert coded[0].data == (tmp_path / "a.xmc").read_bytes()
