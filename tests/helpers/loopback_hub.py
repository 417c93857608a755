"""A Hugging Face hub on the loopback address, with the endpoints that the client calls.

Files lie in memory; large ones are served from another address, as the hub's storage does.
"""

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

LARGE = 10_000  # bytes from which a file is redirected


@dataclass
class Repository:
    """Files by name, and what is special about a repository.

    Attributes:
      gated: files need the token "good".
      cut: bytes after which an answer with a large file ends, as often as `cuts` says.
    """

    files: dict[str, bytes]
    gated: bool = False
    cut: int = 0
    cuts: int = 0
    sha: str = "0123456789abcdef0123456789abcdef01234567"
    revisions: tuple[str, ...] = ("main", "v1")


@dataclass
class Hub:
    """Repositories by OWNER/NAME, and the requests so far: (method, path, Range header)."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)  # uploads by SHA-256

    def add(self, name: str, folder: Path, **properties) -> Repository:
        """Adds the files of a folder as a repository."""
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.repositories[name] = Repository(files, **properties)
        return self.repositories[name]


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._receive()

    def do_PUT(self):
        self._receive()

    def _receive(self):
        """Uploads: small files within the commit, large ones to the storage before it."""
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        self.hub.requests.append((self.command, path, ""))
        upload = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
        batch = re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path)
        stored = re.fullmatch(r"/storage/([0-9a-f]{64})", path)
        if stored:
            self.hub.stored[stored[1]] = content
            self._send(200)
        elif self.headers.get("Authorization") != "Bearer good":
            self._send(401)
        elif path == "/api/validate-yaml":  # the header of a model card
            self._send(200, json.dumps({"errors": [], "warnings": []}).encode())
        elif path == "/api/repos/create":
            given = json.loads(content)
            name = f"{given['organization']}/{given['name']}"
            self.hub.repositories.setdefault(name, Repository({}))
            self._send(200, json.dumps({"url": f"{self.hub.url}/{name}"}).encode())
        elif batch:
            self._send(200, json.dumps(self._batch(json.loads(content))).encode())
        elif upload[2] == "preupload":
            entries = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] >= LARGE else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(content)["files"]
            ]
            self._send(200, json.dumps({"files": entries}).encode())
        else:
            self._commit(upload[1], content)

    def _batch(self, given):
        """Addresses for the objects that are not stored yet."""
        objects = []
        for entry in given["objects"]:
            upload = {"href": f"{self.hub.url}/storage/{entry['oid']}", "header": {}}
            objects.append({**entry, "actions": {"upload": upload}})
        return {"transfer": "basic", "objects": objects}

    def _commit(self, name, content):
        repository = self.hub.repositories[name]
        for line in content.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.stored[value["oid"]]
        url = f"{self.hub.url}/{name}/commit/{repository.sha}"
        answer = {"commitOid": repository.sha, "commitUrl": url}
        self._send(200, json.dumps(answer).encode())

    def _answer(self):
        path = self.path.partition("?")[0]
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        tree = re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(/.+)?", path)
        about = re.fullmatch(r"/api/models/([^/]+/[^/]+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        stored = re.fullmatch(r"/storage/([^/]+/[^/]+)/(.+)", path)
        repository = self.hub.repositories.get((tree or file or stored or about or ["", ""])[1])
        if repository is None:
            self._send(401, headers={"X-Error-Code": "RepoNotFound"})
        elif stored:
            self._send_part(repository, repository.files[stored[2]])
        elif about:
            self._send(200, json.dumps({"id": about[1], "sha": repository.sha}).encode())
        elif (tree or file)[2] not in (*repository.revisions, repository.sha):
            self._send(404, headers={"X-Error-Code": "RevisionNotFound"})
        elif tree and tree[3]:
            self._send(404, headers={"X-Error-Code": "EntryNotFound"})  # there are no subfolders
        elif tree:
            entries = [_entry(name, content) for name, content in repository.files.items()]
            self._send(200, json.dumps(entries).encode())
        elif repository.gated and self.headers.get("Authorization") != "Bearer good":
            self._send(403, headers={"X-Error-Code": "GatedRepo"})
        elif file[3] not in repository.files:
            self._send(404, headers={"X-Error-Code": "EntryNotFound"})
        else:
            self._send_file(repository, file[1], file[3])

    def _send_file(self, repository, name, file):
        content = repository.files[file]
        digest = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": repository.sha, "ETag": f'"{digest}"'}
        if len(content) < LARGE:
            self._send(200, content, headers)
            return
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        # The client takes redirects to the same host for renamed repositories.
        location = f"{self.hub.url.replace('127.0.0.1', 'localhost')}/storage/{name}/{file}"
        self._send(302, headers={**headers, **linked, "Location": location})

    def _send_part(self, repository, content):
        given = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(given[1]) if given else 0
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        end = max(start, repository.cut) if repository.cuts else len(content)
        repository.cuts = max(repository.cuts - 1, 0)
        self._send(206 if given else 200, content[start:], headers if given else {}, end - start)

    def _send(self, status, content=b"", headers=None, cut=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:cut])
        if cut is not None and cut < len(content):
            self.close_connection = True


def _entry(name: str, content: bytes) -> dict:
    blob = hashlib.sha1(content).hexdigest()
    entry = {"type": "file", "oid": blob, "size": len(content), "path": name}
    if len(content) >= LARGE:
        lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        entry["lfs"] = lfs
    return entry
