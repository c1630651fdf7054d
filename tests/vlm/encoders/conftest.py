import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of a hub that nobody answers for."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as its client needs to download: repositories are folders below `root`."""

    root: Path
    asked: list[str]
    tokens: dict[str, str | None]
    """Path -> the access token that came with the latest request for it."""

    def do_GET(self):
        path = self.path.split("?")[0].strip("/")
        self.asked.append(path)
        self.tokens[path] = self.headers.get("Authorization")
        if path.startswith("api/models/"):
            repository = path.removeprefix("api/models/")
            folder = self.root / repository
            if not folder.is_dir():
                return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            files = [{"rfilename": file.name} for file in folder.iterdir()]
            return self.answer(
                200, json.dumps({"id": repository, "sha": "1" * 40, "siblings": files}).encode()
            )
        repository, file = path.split("/resolve/main/")
        if not (self.root / repository / file).is_file():
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "1" * 40})
        content = (self.root / repository / file).read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        return self.answer(200, content, {"X-Repo-Commit": "1" * 40, "ETag": f'"{etag}"'})

    do_HEAD = do_GET

    def answer(self, status, content, headers=()):
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def reachable_hub(hub_cache, tmp_path, monkeypatch):
    """A hub on this machine: (folder of its repositories, paths that were asked for)."""
    handler = type("Hub", (_Hub,), {"root": tmp_path / "remote", "asked": [], "tokens": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    yield handler
    server.shutdown()
    server.server_close()
