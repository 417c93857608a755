"""A bucket of Google Cloud Storage on this machine, which can fail on demand.

python -m tests.helpers.bucket bash    # a shell whose commands find gs://bucket
"""

import contextlib
import functools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import HTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

import fsspec
import pytest
from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets
from gcp_storage_emulator.storage import Storage

logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL + 1)


class Bucket:
    """`gs://bucket`, kept in memory, also while the server is stopped.

    `fails` takes the method and path of a request and returns the status of an error, or None.
    """

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._address = probe.getsockname()
        self._storage = Storage(use_memory_fs=True)
        buckets.create_bucket("bucket", self._storage)
        self.fails: Callable[[str, str], HTTPStatus | None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self.start()

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which the libraries find the emulator, and ask for no credentials."""
        url = f"http://127.0.0.1:{self._address[1]}"
        return {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "FSSPEC_GCS_TOKEN": "anon",
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "anon",  # TensorStore's
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def start(self) -> None:
        """Begins to answer, one request after the other: the emulator is not thread-safe."""
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
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in bucket.environment.items():
                patch.setenv(name, value)
            patch.setitem(fsspec.config.conf["gcs"], "token", "anon")
            yield bucket
    finally:
        bucket.stop()


class _Server(HTTPServer):
    request_queue_size = 128

    def handle_error(self, request, address):
        """Clients hang up."""


class _Handler(server.RequestHandler):
    """Adds what the emulator lacks: generations of objects, on which TensorStore builds."""

    def __init__(self, storage, bucket, *args):
        self._bucket, self._objects = bucket, storage
        super().__init__(storage, *args)

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
        text = json.dumps({"error": {"code": status, "message": status.phrase}}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        return False


if __name__ == "__main__":
    sys.exit(subprocess.run(sys.argv[1:], env=os.environ | Bucket().environment).returncode)
