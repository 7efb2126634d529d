"""A download leaves whole files only, and goes on where it ended."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import requests
from helpers import assert_one_line, plain, saved
from PIL import Image

from xmodal_lite import download
from xmodal_lite.data import open_pairs
from xmodal_lite.download import fetch_roadscene
from xmodal_lite.frames import DataError


class Server:
    """A web server of `files`, whose manners for each path are set by `manners`.

    A manner is a list, taken one a request: "cut" (half of what was asked for, then the line
    drops), "wrong" (other bytes), "deaf" (ignores Range), "deaf cut", or a status code; once the
    list is used up the server behaves.
    """

    def __init__(self):
        self.files, self.manners, self.asked = {}, {}, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def answer(self, request):
        span = request.headers.get("Range")
        self.asked.append((request.path, span))
        manners = self.manners.get(request.path, [])
        manner = manners.pop(0) if manners else ""
        if isinstance(manner, int) or request.path not in self.files:
            request.send_error(manner or 404)
            return
        content = self.files[request.path]
        if "wrong" in manner:
            content = bytes(byte ^ 1 for byte in content)
        if "short" in manner:
            content = content[:10]
        start = int(span[6:-1]) if span and "deaf" not in manner else 0
        request.send_response(206 if start else 200)
        if start:
            request.send_header(
                "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
            )
        body = content[start:]
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if "cut" in manner else body)
        request.close_connection = True

    def requests_of(self, path):
        return [span for asked, span in self.asked if asked == path]


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


FIRST = "/crop_HR_visible/a.jpg"


@pytest.fixture
def offered(server, tmp_path, monkeypatch):
    """The files of two pairs on the server, and a manifest of them; returns them by target."""
    files, listed = {}, {}
    for name in ("a.jpg", "b.jpg"):
        listed[name] = {}
        for part, folder, shape in (
            ("visible", "crop_HR_visible", (64, 80, 3)),
            ("infrared", "cropinfrared", (32, 40)),
        ):
            rng = np.random.default_rng(len(files))
            image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
            content = saved(image, "JPEG")
            server.files[f"/{folder}/{name}"] = files[f"{part}/{name}"] = content
            listed[name][part] = [len(content), hashlib.sha256(content).hexdigest()]
    manifest = {
        "base_url": server.url,
        "folders": {"visible": "crop_HR_visible", "infrared": "cropinfrared"},
        "splits": {"train": ["a"], "valid": [], "test": ["b"]},
        "files": listed,
    }
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    monkeypatch.setattr(download, "MANIFEST", path)
    return files


def fetch(folder, server, **options):
    return fetch_roadscene(folder, server.url, progress=False, pause=0, **options)


def assert_fetched(folder, offered):
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {*offered, "splits.json"}
    assert all((folder / name).read_bytes() == content for name, content in offered.items())


def assert_no_half_files(folder, offered):
    for name, content in offered.items():
        assert not (folder / name).exists() or (folder / name).read_bytes() == content


def test_fetch_writes_a_plain_folder_with_splits(tmp_path, server, offered):
    folder = tmp_path / "deep" / "roadscene"
    assert fetch(folder, server) == folder
    assert_fetched(folder, offered)
    source = open_pairs(folder, "test")
    assert (source.kind, source.names) == ("plain", ["b"])
    assert source[0].infrared.shape == (32, 40)


def test_fetch_takes_the_address_of_the_manifest_by_default(tmp_path, server, offered, capfd):
    fetch_roadscene(tmp_path / "r")
    assert_fetched(tmp_path / "r", offered)
    assert "RoadScene: 100%" in capfd.readouterr().err


def test_fetch_again_asks_for_nothing(tmp_path, server, offered):
    fetch(tmp_path / "r", server)
    before = len(server.asked)
    fetch(tmp_path / "r", server)
    assert len(server.asked) == before == 4


def test_fetch_mends_a_file_that_was_damaged_later(tmp_path, server, offered):
    fetch(tmp_path / "r", server)
    damaged = tmp_path / "r/visible/a.jpg"
    damaged.write_bytes(bytes(len(offered["visible/a.jpg"])))
    (tmp_path / "r/infrared/b.jpg").unlink()
    fetch(tmp_path / "r", server)
    assert_fetched(tmp_path / "r", offered)
    assert len(server.asked) == 6


def test_fetch_goes_on_where_the_line_dropped(tmp_path, server, offered):
    server.manners[FIRST] = ["cut", "cut"]
    fetch(tmp_path / "r", server, tries=1)  # what gets on is no failure
    assert_fetched(tmp_path / "r", offered)
    size = len(offered["visible/a.jpg"])
    half = size // 2
    expected = [None, f"bytes={half}-", f"bytes={half + (size - half) // 2}-"]
    assert server.requests_of(FIRST) == expected


def test_fetch_goes_on_in_the_next_run(tmp_path, server, offered):
    server.manners[FIRST] = ["cut", 503]
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server, tries=1)
    assert_one_line(error, FIRST, "HTTP 503", "fetch again")
    assert_no_half_files(tmp_path / "r", offered)
    half = len(offered["visible/a.jpg"]) // 2
    assert (tmp_path / "r/visible/a.jpg.part").stat().st_size == half
    fetch(tmp_path / "r", server)
    assert server.requests_of(FIRST)[-1] == f"bytes={half}-"
    assert_fetched(tmp_path / "r", offered)


def test_fetch_starts_over_where_the_server_ignores_ranges(tmp_path, server, offered):
    server.manners[FIRST] = ["cut", "deaf"]
    fetch(tmp_path / "r", server)
    assert_fetched(tmp_path / "r", offered)


def test_fetch_gives_up_on_a_line_that_never_gets_on(tmp_path, server, offered):
    server.manners[FIRST] = ["deaf cut"] * 50
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server, tries=3)
    assert_one_line(error, FIRST, "ended after", "3 tries")
    assert len(server.requests_of(FIRST)) == 4
    assert_no_half_files(tmp_path / "r", offered)


def test_fetch_takes_a_second_look_at_wrong_bytes(tmp_path, server, offered):
    server.manners[FIRST] = ["wrong"]
    fetch(tmp_path / "r", server)
    assert_fetched(tmp_path / "r", offered)


def test_fetch_refuses_wrong_bytes(tmp_path, server, offered):
    server.manners[FIRST] = ["cut wrong", "wrong"] * 50
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server, tries=3)
    digest = hashlib.sha256(offered["visible/a.jpg"]).hexdigest()
    assert_one_line(error, FIRST, "other content", digest[:16])
    assert not list((tmp_path / "r/visible").iterdir())


def test_fetch_refuses_a_page_of_another_size(tmp_path, server, offered):
    server.manners[FIRST] = ["short"]
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server)
    assert_one_line(error, FIRST, "holds 10 bytes", len(offered["visible/a.jpg"]))


def test_fetch_names_a_file_that_is_not_there_at_once(tmp_path, server, offered):
    del server.files[FIRST]
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server)
    assert_one_line(error, server.url + FIRST, "not found (HTTP 404)")
    assert str(error.value).count(FIRST) == 1
    assert len(server.asked) == 1


@pytest.mark.parametrize("manner", [503, 429, 416])
def test_fetch_bears_a_server_that_recovers(tmp_path, server, offered, manner):
    server.manners[FIRST] = ["cut", manner, manner]
    fetch(tmp_path / "r", server)
    assert_fetched(tmp_path / "r", offered)


def test_fetch_waits_longer_after_each_failure(tmp_path, server, offered, monkeypatch):
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    server.manners[FIRST] = [503] * 9
    with pytest.raises(DataError):
        fetch_roadscene(tmp_path / "r", server.url, progress=False, tries=4, pause=0.5)
    assert waits[:3] == [0.5, 1, 2]


def test_fetch_without_network_is_one_line(tmp_path, server, offered):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server, tries=2)
    assert_one_line(error, server.url + FIRST, "connection failed (ConnectionError)")


def test_fetch_refuses_an_address_that_is_none(tmp_path, offered):
    with pytest.raises(DataError) as error:
        fetch_roadscene(tmp_path / "r", "somewhere", progress=False)
    assert_one_line(error, "somewhere/crop_HR_visible/a.jpg")


def test_interrupted_fetch_leaves_no_half_file(tmp_path, server, offered, monkeypatch):
    def interrupted(self, size):
        yield next(whole(self, 100))
        raise KeyboardInterrupt

    whole = requests.Response.iter_content
    monkeypatch.setattr(requests.Response, "iter_content", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path / "r", server)
    assert_no_half_files(tmp_path / "r", offered)
    assert not (tmp_path / "r/visible/a.jpg").exists()
    with pytest.raises(DataError) as error:  # what is there must not pass for a data set
        open_pairs(tmp_path / "r")
    assert_one_line(error, tmp_path / "r")
    monkeypatch.setattr(requests.Response, "iter_content", whole)
    fetch(tmp_path / "r", server)
    assert_fetched(tmp_path / "r", offered)
    assert server.requests_of(FIRST) == [None, "bytes=100-"]


def test_half_fetched_folder_cannot_pass_for_another_data_set(tmp_path, server, offered):
    server.manners["/crop_HR_visible/b.jpg"] = [404]
    with pytest.raises(DataError):
        fetch(tmp_path / "r", server)
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path / "r", "train")
    assert_one_line(error, tmp_path / "r/splits.json", "'b'", "no such pair")


def test_fetch_that_cannot_write_names_the_place(tmp_path, server, offered):
    (tmp_path / "r").write_text("a file")
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server)
    assert_one_line(error, tmp_path / "r", "cannot write")


def test_fetch_leaves_another_data_set_alone(tmp_path, server, offered):
    plain(tmp_path / "mine", "xy", {"train": ["x"], "test": ["y"]})
    before = (tmp_path / "mine/splits.json").read_text()
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "mine", server)
    assert_one_line(error, tmp_path / "mine/splits.json", "another data set")
    assert (tmp_path / "mine/splits.json").read_text() == before and not server.asked
