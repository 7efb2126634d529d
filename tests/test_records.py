"""Results are whole files, and come back as they were."""

from __future__ import annotations

import json
import math
import os

import pytest
import torch
from helpers import record, scene

from xmodal_lite import records
from xmodal_lite.evaluation import measure_learned
from xmodal_lite.records import load_measurements, save_results


def test_results_come_back_as_they_were(tmp_path, baseline):
    records = [
        measure_learned("alone", baseline, scene(), 256),
        record("jpeg", "scene_0", 0.5, math.inf, 50),
    ]
    path = tmp_path / "out.json"
    dicts = [r.to_dict() for r in records]
    save_results(path, dicts, "python -m xmodal_lite evaluate", data={"split": "test"})
    assert load_measurements(path) == records
    written = json.loads(path.read_text())
    assert written["command"] == "python -m xmodal_lite evaluate"
    assert written["machine"]["threads"] == torch.get_num_threads()
    assert written["data"] == {"split": "test"}
    first, second = written["records"]
    assert list(first)[:6] == ["codec", "lmbda", "pair", "bytes", "bpp", "psnr"]
    assert list(second) == ["codec", "setting", "pair", "bytes", "bpp", "psnr"]
    assert second["psnr"] is None


def test_results_are_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    path.write_text("old")

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_results(path, [], "command")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{}", '{"records": [{"codec": "x"}]}', '{"records": 3}'])
def test_a_file_without_measurements_is_named(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="bad.json: no measurements"):
        load_measurements(path)


def test_the_commit_is_that_of_this_code_only(tmp_path, monkeypatch):
    assert (found := records.commit()) is None or len(found) >= 7
    monkeypatch.setattr(records, "__file__", str(tmp_path / "records.py"))
    assert records.commit() is None
