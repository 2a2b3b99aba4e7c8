"""Stores behind a web server: one that gives ranges, one that does not, one that lists nothing or does not answer."""

import contextlib
import os
import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import FileIO

import numpy as np
import pytest

import featurestore
from featurestore.operations.verify import verify_utterance
from featurestore.shared.errors import StoreError


class WithoutRanges(SimpleHTTPRequestHandler):
    """The server of the standard library, which gives whole files only."""

    def log_message(self, *_):
        pass


class WithRanges(WithoutRanges):
    def send_head(self):
        asked, path = self.headers.get("Range"), self.translate_path(self.path)
        if not asked or not os.path.isfile(path):
            return super().send_head()
        begin, end = asked.removeprefix("bytes=").split("-")
        size = os.path.getsize(path)
        begin, end = int(begin), min(int(end or size - 1), size - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end}/{size}")
        self.send_header("Content-Length", str(end - begin + 1))
        self.end_headers()
        self._left = end - begin + 1
        file = FileIO(path)  # the caller closes it
        file.seek(begin)
        return file

    def copyfile(self, source, outputfile):
        left = self.__dict__.pop("_left", None)
        outputfile.write(source.read() if left is None else source.read(left))


@contextlib.contextmanager
def served(folder, handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_web_server_with_ranges(toy, tmp_path, suffix):
    toy.write(tmp_path / f"toy{suffix}")
    with served(tmp_path, WithRanges) as url:
        store = featurestore.open(f"{url}/toy{suffix}")
        assert np.allclose(store["a1"]["states"], toy.states["a1"], atol=2)
        assert verify_utterance(store, "a1") == []


@pytest.mark.parametrize("command", ["show", "verify", "convert", "export"])
def test_a_web_server_without_ranges_is_said_in_one_line(ser_store, toy, tmp_path, suffix, command):
    toy.write(tmp_path / f"toy{suffix}")
    with served(tmp_path, WithoutRanges) as url:
        more = {"show": ["a1"], "verify": ["a1"]}.get(command, [tmp_path / "copy.zarr"])
        result = ser_store(command, f"{url}/toy{suffix}", *more)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    if command == "verify":  # nothing is known of what cannot be read
        assert "damaged" not in result.stdout
        assert "could not be read" in result.stdout
    else:
        assert len(result.stderr.splitlines()) == 1


class WithoutLists(WithRanges):
    def list_directory(self, path):
        self.send_error(404)


@pytest.mark.parametrize("command", ["info", "show", "verify", "convert", "export"])
def test_a_server_that_lists_no_folder_is_not_one_of_an_empty_store(ser_store, toy, tmp_path, command):
    toy.write(tmp_path / "toy.zarr")
    more = {"show": ["a1"], "convert": [tmp_path / "copy.zarr"], "export": [tmp_path / "copy"]}.get(command, [])
    with served(tmp_path, WithoutLists) as url:
        result = ser_store(command, f"{url}/toy.zarr", *more)
    assert result.returncode == 1
    assert "does not list folders" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_needs_no_server_that_lists_folders(toy, tmp_path):
    toy.write(tmp_path / "toy.h5")
    with served(tmp_path, WithoutLists) as url:
        assert np.allclose(featurestore.open(f"{url}/toy.h5")["a1"]["states"], toy.states["a1"], atol=2)


def test_a_server_that_does_not_answer_is_not_one_without_the_store(ser_store):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/toy.zarr"
    with pytest.raises(StoreError, match="cannot be reached"):
        featurestore.open(url)
    result = ser_store("info", url)
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)


def test_a_server_without_the_store(tmp_path):
    with served(tmp_path, WithoutRanges) as url, pytest.raises(StoreError, match="no store at"):
        featurestore.open(f"{url}/toy.zarr")
