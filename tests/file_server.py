"""A server of one file that misbehaves as told."""

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves ``content`` at every address below ``url``, and notes each request's ``Range``."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        # For the next requests: close the connection after so many bytes of the body.
        self.break_after: list[int] = []
        self.ignore_range = False
        self.without_length = False
        self.status = None
        # Seconds before each piece of 4 KB.
        self.pause = 0.0
        self.ranges: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        start, size = 0, len(self.content)
        if self.status:
            return request.send_error(self.status)
        if wanted and not self.ignore_range:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= size:
                return request.send_error(416)
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            request.send_response(200)
        body = self.content[start:]
        if not self.without_length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.break_after:
            body = body[: self.break_after.pop(0)]
        # Whoever asked may have gone.
        with suppress(OSError):
            for place in range(0, len(body), 4096):
                threading.Event().wait(self.pause)
                request.wfile.write(body[place : place + 4096])
                request.wfile.flush()
