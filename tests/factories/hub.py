"""A model hub on this machine that speaks the hub's protocol: HEAD and GET of /OWNER/NAME/resolve/main/FILE."""

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class MadeHub:
    """What the hub serves, and how it misbehaves."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)  # "owner/name/file" -> content
    announced: dict[str, bytes] = field(default_factory=dict)  # other content whose hash is told in its place
    breaks: int = 0  # so many of the next GETs end half way
    asked: list[str] = field(default_factory=list)  # "GET owner/name/file", in order

    def add(self, repository: str, file: str, content: bytes) -> str:
        self.files[f"{repository}/{file}"] = content
        return hashlib.sha256(content).hexdigest()


def _handler(hub: MadeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer("HEAD")

        def do_GET(self):
            self.answer("GET")

        def answer(self, verb: str) -> None:
            found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/main/(.+)", self.path)
            name = f"{found[1]}/{found[2]}" if found else self.path
            hub.asked.append(f"{verb} {name}")
            if name not in hub.files:
                self.send_response(404)
                known = any(entry.startswith(f"{found[1]}/") for entry in hub.files) if found else False
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = hub.files[name]
            etag = hashlib.sha256(hub.announced.get(name, content)).hexdigest()
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", "c" * 40)
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if verb == "HEAD":
                return
            if hub.breaks:
                hub.breaks -= 1
                self.wfile.write(content[start : start + (len(content) - start) // 2])
                self.close_connection = True
                return
            self.wfile.write(content[start:])

        def log_message(self, *_):
            pass

    return Handler


@contextlib.contextmanager
def made_hub() -> Iterator[MadeHub]:
    """Serve until the block ends."""
    hub = MadeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
