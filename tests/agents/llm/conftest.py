"""A server that speaks OpenAI's protocol on loopback and misbehaves as it is told."""

import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Misbehaving:
    """Answers the requests in turn by a script; when the script is over, always with ``default``."""

    def __init__(self, default="1, 2"):
        self.default = default
        self.script = []
        self.requests = []
        self.headers = []
        self._lock = threading.Lock()
        self.port = 0
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    outer.requests.append(body)
                    outer.headers.append(dict(self.headers))
                    act = outer.script.pop(0) if outer.script else outer.default
                if callable(act):
                    act = act(body)
                if isinstance(act, str):
                    act = ("ok", act)
                getattr(self, f"act_{act[0]}")(*act[1:])

            def reply(self, data, status=200, headers=()):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def act_ok(self, text, finish="stop"):
                self.reply(json.dumps(completion(text, finish)).encode())

            def act_slow(self, seconds, text="1, 2"):
                time.sleep(seconds)
                self.act_ok(text)

            def act_status(self, status, message="no", *headers):
                error = {"error": {"message": message, "type": "server_error"}}
                self.reply(json.dumps(error).encode(), status, headers)

            def act_raw(self, data):
                self.reply(data)

            def act_cut(self):
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"choices": [')
                self.wfile.flush()
                # A reset, not a clean end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True

            def act_die(self, outage):
                """Take the whole server away for a while."""
                outer.stop(wait=False)
                if outage is not None:
                    threading.Timer(outage, outer.start).start()
                self.close_connection = True

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request, client_address):
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self, wait=True):
        self._server.shutdown()
        self._server.server_close()
        if wait:
            self._thread.join()


def completion(text, finish="stop", prompt=40, cached=30, written=4):
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }


@pytest.fixture
def server():
    server = Misbehaving()
    yield server
    server.stop()
