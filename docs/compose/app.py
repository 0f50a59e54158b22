# SPDX-License-Identifier: GPL-2.0-only
"""The application of the shop: counts its visitors in redis, over one connection a thread."""

import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8000
STORE = (os.environ.get("STORE", "store"), 6379)


class Store:
    """Enough of redis' protocol for commands that are answered in one line."""

    def __init__(self):
        self.socket = socket.create_connection(STORE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = self.socket.makefile("rb")

    def ask(self, *words):
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            word = word.encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
        self.socket.sendall(b"".join(parts))
        line = self.answers.readline().rstrip()
        if not line or line[:1] == b"-":
            raise ConnectionError(line.decode() or "the store has gone")
        return line[1:].decode()


class Visit(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    mine = threading.local()

    def do_GET(self):
        if not hasattr(self.mine, "store"):
            self.mine.store = Store()
        body = f"visitor {self.mine.store.ask('INCR', 'visitors')}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def store_await():
    """Compose starts the store before us, and does not wait until it listens."""
    while True:
        try:
            return Store().ask("PING")
        except OSError:
            time.sleep(0.1)


if __name__ == "__main__":
    store_await()
    print("open", flush=True)
    ThreadingHTTPServer(("", PORT), Visit).serve_forever()
