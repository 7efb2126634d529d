"""Training learns, stops cleanly, and goes on bit for bit."""

import csv
import errno
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from helpers import ROOT, TINY, fresh, liven, run_python, write_pairs

from xmodal_lite.config import LAMBDAS
from xmodal_lite.frames import DataError
from xmodal_lite.image_codec import fingerprint
from xmodal_lite.pair_codec import PairCodec
from xmodal_lite.pretrained import load_weights, notes_of
from xmodal_lite.stages import build_codec
from xmodal_lite.training import Trainer, TrainingConfig, TrainingError, draw_lambdas, draw_sent


def schedule(pairs, **changes) -> TrainingConfig:
    values = {"stage": "alone", "steps": 6, "batch": 2, "crop": 64, "warmup": 2}
    return TrainingConfig(**{**values, "data": (str(pairs),), **changes})


def trainer(codec, config, folder, every=2) -> Trainer:
    """On the CPU in float32: what is compared bit for bit here must be the same everywhere."""
    return Trainer(codec, config, folder, every, Accelerator(cpu=True, mixed_precision="no"))


def rows(path):
    """The rows of a CSV as numbers (None for NaN), but for the time they took."""
    with open(path) as file:
        return [
            {k: None if v == "nan" else float(v) for k, v in row.items() if k != "seconds"}
            for row in csv.DictReader(file)
        ]


def assert_equal_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


# --- it learns ---


def test_loss_goes_down(pairs, tmp_path):
    config = schedule(pairs, stage="infrared", steps=60, warmup=5, lmbda_range=(1024.0, 1024.0))
    trainer(fresh("infrared"), config, tmp_path, every=60).run()
    losses = [row["loss"] for row in rows(tmp_path / "train.csv")]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


@pytest.mark.parametrize("stage", ["visible", "infrared", "alone", "pair"])
def test_every_stage_leaves_weights_that_code(stage, pairs, visible_weights, tmp_path):
    torch.manual_seed(0)
    codec = build_codec(TINY, stage, visible_weights if stage == "pair" else None)
    liven(codec)  # an untrained z is all zeros, from which h_s learns nothing yet
    if stage == "pair":
        codec.reference_codec.load_state_dict(load_weights(visible_weights).state_dict())
    before = {name: p.clone() for name, p in codec.named_parameters()}
    reference = fingerprint(codec.reference_codec) if stage == "pair" else None
    trainer(codec, schedule(pairs, stage=stage, steps=3), tmp_path).run()
    trained = load_weights(tmp_path / "weights.safetensors")
    assert type(trained) is type(codec)
    if stage == "pair":
        assert fingerprint(trained.reference_codec) == reference
    for name, parameter in trained.named_parameters():
        frozen = name.startswith("reference_codec.") or name.endswith(("quantiles", "key.bias"))
        assert frozen or not torch.equal(parameter, before[name]), name
    visible, infrared = torch.rand(3, 40, 60), torch.rand(1, 20, 30)
    if isinstance(trained, PairCodec):
        trained.decompress(trained.compress(visible, infrared))
    else:
        trained.decompress(trained.compress(visible if stage == "visible" else infrared))
    assert notes_of(tmp_path / "weights.safetensors")["steps"] == 3
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"checkpoint.pt", "train.csv", "valid.csv", "run.json", "weights.safetensors"}


def test_metrics_say_what_happened_at_each_step(pairs, tmp_path):
    trainer(fresh(), schedule(pairs), tmp_path, every=4).run()
    steps = rows(tmp_path / "train.csv")
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(value) for row in steps for value in row.values())
    assert [row["rate"] for row in steps] == [schedule(pairs).rate_at(k) for k in range(6)]
    valid = rows(tmp_path / "valid.csv")
    assert [(row["step"], row["lmbda"]) for row in valid] == [
        (step, lmbda) for step in (4, 6) for lmbda in (256, 1024, 4096)
    ]
    assert json.loads((tmp_path / "run.json").read_text())["training"]["steps"] == 6


@pytest.mark.parametrize("scale", [1, 3])
def test_crops_have_the_codecs_scale(scale, pairs, tmp_path):
    codec = fresh(scale=scale, target="visible")
    trainer(codec, schedule(pairs, steps=2), tmp_path).run()
    assert len(rows(tmp_path / "valid.csv")) == 3


# --- it goes on bit for bit ---


def pair_run(pairs, visible_weights, folder, seed, every=2):
    torch.manual_seed(seed)
    codec = build_codec(TINY, "pair", visible_weights)
    return trainer(codec, schedule(pairs, stage="pair"), folder, every)


@pytest.fixture(scope="module")
def uninterrupted(pairs, visible_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    codec = pair_run(pairs, visible_weights, folder, seed=0).run()
    return codec, folder


@pytest.fixture(scope="module")
def alone_run(pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    codec = trainer(fresh(), schedule(pairs), folder).run()
    return codec, folder


def assert_same_run(codec, folder, uninterrupted):
    expected, other = uninterrupted
    assert_equal_weights(codec, expected)
    assert rows(folder / "train.csv") == rows(other / "train.csv")
    ours, theirs = (load_weights(place / "weights.safetensors") for place in (folder, other))
    assert fingerprint(ours) == fingerprint(theirs)  # tables included


@pytest.mark.parametrize("stop_at", [1, 4])
def test_a_stopped_run_goes_on_bit_for_bit(
    stop_at, pairs, visible_weights, uninterrupted, tmp_path
):
    pair_run(pairs, visible_weights, tmp_path, seed=0).run(stop_at)
    assert not (tmp_path / "weights.safetensors").exists()
    second = pair_run(pairs, visible_weights, tmp_path, seed=1)  # other initial weights
    assert second.step == stop_at
    assert_same_run(second.run(), tmp_path, uninterrupted)


def test_rows_after_the_last_checkpoint_are_written_again(pairs, alone_run, tmp_path):
    """As after a kill between the metrics and the checkpoint."""
    trainer(fresh(), schedule(pairs), tmp_path).run(2)
    old = (tmp_path / "checkpoint.pt").read_bytes()
    trainer(fresh(), schedule(pairs), tmp_path).run(4)
    (tmp_path / "checkpoint.pt").write_bytes(old)
    second = trainer(fresh(seed=1), schedule(pairs), tmp_path)
    assert second.step == 2
    assert_same_run(second.run(), tmp_path, alone_run)
    assert rows(tmp_path / "valid.csv") == rows(alone_run[1] / "valid.csv")


def test_a_finished_run_only_writes_its_weights_again(uninterrupted, pairs, visible_weights):
    codec, folder = uninterrupted
    before = fingerprint(load_weights(folder / "weights.safetensors"))
    (folder / "weights.safetensors").unlink()
    again = pair_run(pairs, visible_weights, folder, seed=5)
    assert_equal_weights(again.run(), codec)
    assert fingerprint(load_weights(folder / "weights.safetensors")) == before
    assert len(rows(folder / "train.csv")) == 6


def test_a_run_stopped_before_its_first_step_does_nothing(pairs, tmp_path):
    run = trainer(fresh(), schedule(pairs), tmp_path)
    run.run(stop_at=0)
    assert run.step == 0 and not (tmp_path / "checkpoint.pt").exists()


# --- what a run refuses to go on with ---


@pytest.fixture
def stopped(pairs, tmp_path):
    """A folder with a run that was stopped after two of six steps."""
    trainer(fresh(), schedule(pairs), tmp_path / "run").run(2)
    return tmp_path / "run"


def assert_refused(folder, codec, config, *said):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TrainingError) as error:
        trainer(codec, config, folder)
    for part in ("checkpoint.pt", *said):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_another_schedule_is_refused_with_both_values(stopped, pairs):
    config = schedule(pairs, learning_rate=5e-4)
    assert_refused(stopped, fresh(), config, "learning_rate was 0.001, is 0.0005")


def test_another_codec_is_refused_with_both_values(stopped, pairs):
    codec = fresh(latent_channels=16)
    assert_refused(stopped, codec, schedule(pairs), "latent_channels was 12, is 16")


def test_other_pairs_are_refused(stopped, tmp_path):
    other = write_pairs(tmp_path / "other", count=6)
    assert_refused(stopped, fresh(), schedule(other), "not the same files")


def test_the_same_pairs_in_another_place_are_the_same_run(stopped, pairs, tmp_path):
    shutil.copytree(pairs, tmp_path / "moved")
    assert trainer(fresh(), schedule(tmp_path / "moved"), stopped).step == 2


@pytest.mark.parametrize("damage", ["half", "empty", "text", "zeros", "another"])
def test_a_checkpoint_that_is_not_whole_is_refused(stopped, pairs, damage):
    path = stopped / "checkpoint.pt"
    data = path.read_bytes()
    if damage == "another":
        torch.save({"step": 3}, path)
    else:
        path.write_bytes(
            {
                "half": data[: len(data) // 2],
                "empty": b"",
                "text": b"checkpoint\n" * 100,
                "zeros": bytes(len(data)),
            }[damage]
        )
    assert_refused(stopped, fresh(), schedule(pairs), "not a whole checkpoint")


def test_a_checkpoint_never_runs_code(stopped, pairs, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({"identity": Attack()}, stopped / "checkpoint.pt")
    assert_refused(stopped, fresh(), schedule(pairs), "not a whole checkpoint")
    assert not (tmp_path / "owned").exists()


# --- what stops a run ---


@pytest.mark.parametrize("file", range(4))
def test_a_full_disk_while_checkpointing_leaves_the_last_checkpoint(
    file, pairs, alone_run, tmp_path, monkeypatch
):
    """Whichever of the four files it hits: the run says so, and goes on from before."""
    run = trainer(fresh(), schedule(pairs), tmp_path)
    run.run(2)
    calls = iter(range(100))
    plain = os.fsync

    def full(descriptor):
        if next(calls) == file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        run.run(4)
    monkeypatch.undo()
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
    second = trainer(fresh(seed=1), schedule(pairs), tmp_path)
    assert second.step == 2
    assert_same_run(second.run(), tmp_path, alone_run)


def test_a_loss_that_is_not_finite_stops_the_run_at_its_last_checkpoint(pairs, tmp_path):
    codec = fresh()
    run = trainer(codec, schedule(pairs), tmp_path)
    run.run(2)
    with torch.no_grad():
        codec.g_a[0].weight.fill_(torch.nan)
    with pytest.raises(TrainingError) as error:
        run.run()
    assert "step 2: the loss is nan" in str(error.value) and str(tmp_path) in str(error.value)
    assert not (tmp_path / "weights.safetensors").exists()
    codec = fresh(seed=1)
    assert trainer(codec, schedule(pairs), tmp_path).step == 2
    assert all(parameter.isfinite().all() for parameter in codec.parameters())


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(pairs, tmp_path):
    """Clipping would turn one infinity into NaN everywhere, one step before the loss shows it."""
    codec = fresh()
    run = trainer(codec, schedule(pairs), tmp_path)
    run.run(2)
    codec.g_a[0].bias.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(TrainingError, match="step 2: the gradient is"):
        run.run()
    assert all(parameter.isfinite().all() for parameter in codec.parameters())
    assert trainer(fresh(seed=1), schedule(pairs), tmp_path).step == 2


def test_a_run_without_data_says_which_folder(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        trainer(fresh(), schedule(tmp_path / "nowhere"), tmp_path / "run")


def kill_runs(pairs, folder):
    """Three endless runs with a checkpoint each step, killed at some moment after the first."""
    rng = random.Random(0)
    for k in range(3):
        child = os.fork()
        if not child:
            torch.set_num_threads(1)
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (until the kill)
            endless = schedule(pairs, steps=10_000)
            trainer(fresh(), endless, Path(folder) / str(k), every=1).run()
            os._exit(1)
        while not (Path(folder) / str(k) / "checkpoint.pt").exists():
            time.sleep(0.01)
        time.sleep(rng.random())
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(pairs, tmp_path):
    if torch.cuda.is_available():  # then autograd has threads, which do not survive a fork
        run_python("import sys, test_training as t; t.kill_runs(*sys.argv[1:])", pairs, tmp_path)
    else:
        kill_runs(pairs, tmp_path)
    config = schedule(pairs, steps=10_000)
    for k in range(3):
        run = trainer(fresh(seed=1), config, tmp_path / str(k))
        step = run.step
        assert step >= 1
        run.run(step + 1)
        steps = [row["step"] for row in rows(tmp_path / str(k) / "train.csv")]
        assert steps == list(range(1, step + 2))


# --- many processes ---

LAUNCHED = """
    import sys
    import torch
    from accelerate import Accelerator
    from helpers import fresh
    from test_training import schedule
    from xmodal_lite.training import Trainer

    accelerator = Accelerator(cpu=True, mixed_precision="no")
    assert accelerator.num_processes == 2
    codec = fresh(seed=accelerator.process_index)  # replicas start from the first one's weights
    config = schedule(sys.argv[1], batch=4, steps=3)
    Trainer(codec, config, sys.argv[2], 2, accelerator).run()
    codec.update_tables()  # the first process has done so
    for name, parameter in codec.named_parameters():
        ours = accelerator.gather(parameter.detach().contiguous()[None])
        assert torch.equal(ours[0], ours[1]), f"replicas drifted apart: {name}"
"""


def test_two_processes_train_as_one_does_with_the_same_batch(pairs, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(LAUNCHED))
    # with --cpu it would start one process, whatever the number
    launch = [sys.executable, "-W", "ignore", "-m", "accelerate.commands.launch", "--multi_gpu"]
    launch += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    launch += [
        "--dynamo_backend",
        "no",
        "--main_process_port",
        str(random.randint(20_000, 60_000)),
    ]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*launch, script, pairs, tmp_path / "two"],
        env={
            **os.environ,
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": paths,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    codec = fresh()
    one = trainer(codec, schedule(pairs, batch=4, steps=3), tmp_path / "one")
    one.run()
    ours, theirs = (rows(tmp_path / name / "train.csv") for name in ("one", "two"))
    assert len(ours) == len(theirs) == 3
    assert theirs[0]["loss"] == pytest.approx(ours[0]["loss"], rel=0.05)  # other noise
    assert theirs[0]["loss"] != ours[0]["loss"]
    assert theirs[0]["psnr"] == pytest.approx(ours[0]["psnr"], abs=0.2)
    load_weights(tmp_path / "two" / "weights.safetensors")
    # one process goes on where two have stopped
    assert trainer(fresh(), schedule(pairs, batch=4, steps=3), tmp_path / "two").step == 3


def test_a_batch_that_does_not_divide_by_the_processes_is_an_error(pairs, tmp_path, monkeypatch):
    run = trainer(fresh(), schedule(pairs, batch=3), tmp_path)
    monkeypatch.setattr(type(run.accelerator), "num_processes", 2)
    with pytest.raises(TrainingError, match="a batch of 3 does not divide by 2"):
        run.run()


# --- λ and the schedule ---


def test_each_batch_covers_the_range_of_lambda():
    config = TrainingConfig(batch=8)
    for step in range(20):
        drawn = draw_lambdas(config, LAMBDAS, step)
        assert drawn.shape == (8,) and drawn.min() >= 256 and drawn.max() <= 4096
        strata = (drawn.log2() - 8) / 4 * 8  # one in each eighth of the range
        assert strata.sort().values.floor().tolist() == list(range(8))


def test_lambdas_depend_on_the_step_and_the_seed_and_nothing_else():
    config = TrainingConfig(batch=4)
    first = draw_lambdas(config, LAMBDAS, 7)
    torch.manual_seed(99)
    assert torch.equal(first, draw_lambdas(config, LAMBDAS, 7))
    assert not torch.equal(first, draw_lambdas(config, LAMBDAS, 8))
    assert not torch.equal(first, draw_lambdas(replace(config, seed=1), LAMBDAS, 7))


def test_lambda_may_be_drawn_from_a_part_of_the_range():
    drawn = draw_lambdas(TrainingConfig(batch=8, lmbda_range=(256.0, 512.0)), LAMBDAS, 0)
    assert 256 <= drawn.min() < 300 and 430 < drawn.max() <= 512
    assert (draw_lambdas(TrainingConfig(batch=3), (777.0,), 0) == 777).all()


def test_rate_rises_stays_and_falls_to_zero():
    config = TrainingConfig(steps=1000, warmup=100, decay_from=0.5)
    rates = [config.rate_at(step) for step in range(1000)]
    assert rates[:3] == [0.01, 0.02, 0.03] and rates[99] == 1
    assert set(rates[99:501]) == {1.0}
    falling = rates[500:]
    assert all(a > b for a, b in zip(falling, falling[1:], strict=False))
    assert 0 < rates[-1] < 0.005
    assert config.rate_at(750) == 0.5


@pytest.mark.parametrize("steps", [1, 2, 10, 150])
@pytest.mark.parametrize("decay_from", [0.0, 0.5, 1.0])
def test_every_step_of_a_short_run_has_a_rate(steps, decay_from):
    config = TrainingConfig(steps=steps, decay_from=decay_from)
    assert all(0 < config.rate_at(step) <= 1 for step in range(steps))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stage", "both"),
        ("steps", 0),
        ("steps", 1.5),
        ("batch", 0),
        ("crop", 100),
        ("crop", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("muon_rate", -0.1),
        ("warmup", -1),
        ("decay_from", 1.5),
        ("clip", 0.0),
        ("data", ()),
        ("lmbda_range", (512.0, 256.0)),
        ("lmbda_range", (0.0, 256.0)),
    ],
)
def test_a_schedule_that_cannot_be_is_named_by_field_and_value(field, value):
    with pytest.raises(ValueError) as error:
        TrainingConfig(**{field: value})
    assert field in str(error.value) and str(value) in str(error.value)
    assert "\n" not in str(error.value)


def test_lambda_beyond_the_codecs_range_is_refused(pairs, tmp_path):
    config = schedule(pairs, lmbda_range=(128.0, 1024.0))
    with pytest.raises(ValueError, match="λ is 128"):
        trainer(fresh(), config, tmp_path)


# --- what the reference runs through ---


def test_only_the_reference_branches_move_when_the_baseline_is_held(
    pairs, visible_weights, alone_run, tmp_path
):
    start = alone_run[1] / "weights.safetensors"
    codec = build_codec(TINY, "pair", visible_weights, start)
    skip = codec.feature_decoder.blocks[0].skip
    for parameter in skip.parameters():  # as an earlier run may have left it
        torch.nn.init.normal_(parameter)
    config = schedule(pairs, stage="pair", reference_rate=1e-3, only_reference=True)
    after = dict(trainer(codec, config, tmp_path).run().named_parameters())
    baseline = load_weights(start)
    images = torch.rand(1, 3, 128, 128), torch.rand(1, 1, 64, 64), torch.tensor([700.0])
    with torch.no_grad():
        without = codec.eval()(*images, mode="none")["x_hat"]
        assert torch.allclose(without, baseline(*images)["x_hat"], atol=1e-5)
        assert not torch.allclose(without, codec(*images)["x_hat"], atol=1e-3)
    assert skip.weight[:, TINY.feature_channels :].abs().sum() > 0
    for name, before in baseline.named_parameters():
        if not name.endswith("quantiles"):
            own = after[name][tuple(slice(side) for side in before.shape)]
            assert torch.equal(own, before), name
    joined, held = after["g_s.1.0.weight"], baseline.g_s[1][0].weight
    assert joined.abs().sum() > held.abs().sum()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_crops_sends_no_coefficients(share, pairs, visible_weights, tmp_path):
    drawn = torch.cat([
        draw_sent(TrainingConfig(batch=8, without_coefficients=share), step) for step in range(200)
    ])  # fmt: skip
    assert set(drawn.tolist()) <= {0.0, 1.0}
    assert drawn.mean().item() == pytest.approx(1 - share, abs=0.05)
    config = schedule(pairs, stage="pair", steps=3, without_coefficients=share)
    codec = liven(build_codec(TINY, "pair", visible_weights))
    before = {n: p.clone() for n, p in codec.channel_alignment.named_parameters()}
    trainer(codec, config, tmp_path).run()
    for name, parameter in codec.channel_alignment.named_parameters():
        assert torch.equal(parameter, before[name]) == (share == 1), name


def test_coefficients_are_left_out_only_where_another_branch_remains(
    pairs, visible_weights, tmp_path
):
    codec = build_codec(replace(TINY, spatial_alignment=False), "pair", visible_weights)
    for who in (codec, fresh()):
        with pytest.raises(ValueError, match="without_coefficients is 0.5; expected 0 for"):
            trainer(who, schedule(pairs, without_coefficients=0.5), tmp_path)


def test_a_codec_without_reference_has_nothing_but_its_baseline(pairs, tmp_path):
    with pytest.raises(ValueError, match="only_reference is True; expected a codec with a ref"):
        trainer(fresh(), schedule(pairs, only_reference=True), tmp_path)
