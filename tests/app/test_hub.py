"""Nets go to a stand-in of the hub on this machine and come back, by the hub's own client."""

import base64
import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import zforcing_pyro as zf

pytest.importorskip("huggingface_hub", reason="needs the extra hub")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROUND_TRIP = """
import torch, zforcing_pyro as zf
from zforcing_pyro.emissions import Bernoulli
torch.manual_seed(0)
net = zf.VRNN(Bernoulli, x_dim=3, z_dim=2, h_dim=4, hidden_dim=4).eval()
print(zf.push(net, "ann/small.net", about="Bits by hand."))
again = zf.load("hub:ann/small.net")
assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters()))
for name in ("hub:ann/none", "hub:ann/small.net@old"):
    try:
        zf.load(name)
    except ValueError as error:
        assert str(error).startswith(f"'{name}' must be a net on the hub, got: "), error
    else:
        raise AssertionError(name)
"""


class Hub(BaseHTTPRequestHandler):
    """A hub of one repository: what is committed can be downloaded."""

    files: dict[str, bytes] = {}
    asked: list[str] = []

    def log_message(self, *args):
        pass

    def answer(self, content, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        self.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = f"http://{self.headers['Host']}/ann/small.net"
        reply: dict = {"url": url}
        if "/preupload/" in self.path:
            plain = {"uploadMode": "regular", "shouldIgnore": False}
            reply = {"files": [{"path": f["path"], **plain} for f in json.loads(body)["files"]]}
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            reply = {"commitUrl": f"{url}/commit/{COMMIT}", "commitOid": COMMIT}
        self.answer(json.dumps(reply).encode(), Content_Type="application/json")

    def do_GET(self):
        self.asked.append(self.path)
        start, name = "/ann/small.net/resolve/main/", self.path.rpartition("/")[2]
        if not self.path.startswith(start) or name not in self.files:
            return self.answer(b"", 404, X_Error_Code="RepoNotFound")
        content = self.files[name]
        etag = hashlib.sha1(content).hexdigest()
        return self.answer(content, ETag=f'"{etag}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET


@pytest.mark.slow
def test_a_net_goes_to_the_hub_and_comes_back(tmp_path, monkeypatch):
    """The client reads the address of the hub when it is imported, so this is a new process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "none")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    done = subprocess.run([sys.executable, "-c", ROUND_TRIP], capture_output=True, text=True)
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"/ann/small.net/commit/{COMMIT}")
    assert Hub.files.keys() == {"model.safetensors", "README.md"}
    card = Hub.files["README.md"].decode()
    assert card.startswith("---\nlibrary_name: zforcing_pyro\n")
    for part in ("# ann/small.net", "`vrnn` network", "Bits by hand.", '"z_dim": 2'):
        assert part in card, part
    assert 'zf.load("hub:ann/small.net")' in card
    fetched = [path for path in Hub.asked if "/resolve/" in path]
    assert fetched and all(path.endswith("/model.safetensors") for path in fetched)


@pytest.mark.parametrize("name", ["small", "a/../b", "a/b/c", "-", "é/b", "a/b.git", "a/b--c", ""])
def test_names_are_checked_before_anything_is_sent(name):
    with pytest.raises(ValueError, match="'name' on the hub must be OWNER/NAME"):
        zf.load(f"hub:{name}")
    with pytest.raises(ValueError, match="'name' on the hub must be OWNER/NAME"):
        zf.push(None, name)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"the hub needs huggingface_hub: pip install 'zforcing"):
        zf.load("hub:ann/small.net")
