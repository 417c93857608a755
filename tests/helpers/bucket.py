"""A bucket of Google Cloud Storage on this machine, which can fail or be slow on demand.

python -m tests.helpers.bucket bash    # a shell whose commands find gs://bucket

TensorFlow's client knows no emulator: it reaches the bucket as an HTTPS proxy that answers in place
of Google's hosts, with a certificate of its own.
"""

import contextlib
import functools
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import fsspec
import pytest
from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.storage import Storage

from clipa_jax.runtime import storage
from tests.helpers import certificate

HOSTS = ("www.googleapis.com", "storage.googleapis.com")  # that TensorFlow asks
PAGE = 1_000  # objects of a listing that come at once
logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL + 1)


class Bucket:
    """`gs://bucket`, kept in memory, also while the server is stopped.

    `fails` takes the method and path of a request and returns the status of an error, or None. Each
    request waits for `delay` seconds, beside others; then the emulator, which is not thread-safe,
    answers one after the other.
    """

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._address = probe.getsockname()
        self._storage = Objects(use_memory_fs=True)
        buckets.create_bucket("bucket", self._storage)
        self.fails: Callable[[str, str], HTTPStatus | None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self.delay, self.lock = 0.0, threading.Lock()
        self.listings: dict[tuple[str | None, str | None], Any] = {}
        self._folder = tempfile.TemporaryDirectory()
        self.tls = certificate.make(
            self._folder.name, "www.googleapis.com", "storage.googleapis.com"
        )
        self.start()

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which the libraries find the emulator, and ask for no credentials."""
        url = f"http://127.0.0.1:{self._address[1]}"
        return {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "FSSPEC_GCS_TOKEN": "anon",
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "anon",  # of TensorStore and TensorFlow
            "https_proxy": url,  # for TensorFlow
            "no_proxy": "localhost,127.0.0.1",  # JAX's processes reach each other directly
            "CURL_CA_BUNDLE": os.path.join(self._folder.name, certificate.FILE),
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def put(self, folder: str, contents: Mapping[str, bytes]) -> None:
        """Objects by name, without a request: equal contents are kept once."""
        for name, content in contents.items():
            path, size = f"{folder}/{name}", str(len(content))
            resource = objects._make_object_resource("", "bucket", path, "", size)
            self._storage._store._files[f"bucket/{path}"] = content
            self._storage.objects.setdefault("bucket", {})[path] = resource

    def start(self) -> None:
        """Begins to answer."""
        self._server = _Server(self._address, functools.partial(_Handler, self._storage, self))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Refuses connections."""
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def running() -> Iterator[Bucket]:
    """A bucket that the libraries of this process, and of those that it starts, find."""
    bucket = Bucket()
    assert storage  # which makes the section of fsspec's settings
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in bucket.environment.items():
                patch.setenv(name, value)
            patch.setitem(fsspec.config.conf["gcs"], "token", "anon")
            yield bucket
    finally:
        bucket.stop()


class Objects(Storage):
    """The emulator's objects, without the copy of all their metadata after each write."""

    def _write_config_to_file(self):
        """Nothing: they stay in memory."""


class _Server(ThreadingHTTPServer):
    request_queue_size, daemon_threads = 128, True

    def handle_error(self, request, address):
        """Clients hang up."""


class _Handler(server.RequestHandler):
    """Adds what the emulator lacks: generations of objects, on which TensorStore builds, listings
    in pages, moves, and TLS."""

    def __init__(self, storage, bucket, *args):
        self._bucket, self._objects = bucket, storage
        super().__init__(storage, *args)

    def handle(self):
        if self.rfile.peek(1).startswith(b"CONNECT"):
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            with self._bucket.tls.wrap_socket(self.connection, server_side=True) as inner:
                type(self)(self._objects, self._bucket, inner, self.client_address, self.server)
            return
        time.sleep(self._bucket.delay)
        with self._bucket.lock:
            super().handle()

    def do_GET(self):
        url = urlsplit(self.path)
        if not url.path.endswith("/b/bucket/o"):
            super().do_GET()
            return
        query = dict(parse_qsl(url.query))
        begin = int(query.get("pageToken", 0))
        which = query.get("prefix"), query.get("delimiter")
        if not begin:  # the other pages are of the same listing
            self._bucket.listings[which] = self._objects.get_file_list("bucket", *which)
        items, prefixes = self._bucket.listings[which]
        end = begin + min(int(query.get("maxResults", PAGE)), PAGE)
        page = {
            "kind": "storage#objects",
            "items": items[begin:end],
            "prefixes": prefixes[max(begin - len(items), 0) : max(end - len(items), 0)],
        }
        more = {"nextPageToken": str(end)} if end < len(items) + len(prefixes) else {}
        self._answer(HTTPStatus.OK, page | more)

    def do_POST(self):
        source, moved, target = urlsplit(self.path).path.partition("/moveTo/o/")
        if not moved:
            super().do_POST()
            return
        server._read_raw_data(self)
        name = unquote(source.split("/o/")[1])
        try:
            resource = objects._copy("", self._objects, "bucket", name, "bucket", unquote(target))
        except NotFound:
            self._answer(HTTPStatus.NOT_FOUND, {})
            return
        self._objects.delete_file("bucket", name)
        self._answer(HTTPStatus.OK, resource)

    def _answer(self, status, content):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _generation(self, name: str) -> str:
        """Of an object; 0 if there is none."""
        try:
            return self._objects.get_file_obj("bucket", name)["generation"]
        except NotFound:
            return "0"

    def end_headers(self):
        url = urlsplit(self.path)
        if self.command == "GET" and "/o/" in url.path:
            self.send_header(
                "x-goog-generation", self._generation(unquote(url.path.split("/o/")[1]))
            )
        super().end_headers()

    def _precondition(self) -> HTTPStatus | None:
        """412 for a write that expects another generation of the object."""
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        name = query.get("name") or unquote(url.path.partition("/o/")[2])
        expected = query.get("ifGenerationMatch")
        fits = self.command == "GET" or expected in (None, self._generation(name))
        return None if fits else HTTPStatus.PRECONDITION_FAILED

    def parse_request(self):
        if not super().parse_request():
            return False
        self._bucket.requests.append((self.command, self.path))
        status = self._bucket.fails(self.command, self.path) or self._precondition()
        if status is None:
            return True
        server._read_raw_data(self)
        self._answer(status, {"error": {"code": status, "message": status.phrase}})
        return False


if __name__ == "__main__":
    sys.exit(subprocess.run(sys.argv[1:], env=os.environ | Bucket().environment).returncode)
