"""
A forward proxy: a POST with the full address, and CONNECT. A script of its own.

Its first line says the port; then each request is one: the method, where to, and
whether the password was right. Wrong ones are refused with a 407.
"""

import base64
import http.client
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# user:password, or empty for all.
LOGIN = sys.argv[1] if len(sys.argv) > 1 else ""
EXPECTED = f"Basic {base64.b64encode(LOGIN.encode()).decode()}" if LOGIN else None
TIMEOUT = 30
CHUNK = 65_536


def say(line):
    """Write a line for whoever started this."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Proxy(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Print no line of the server's own."""

    def allowed(self):
        """Say on stdout what came in; refuse it without the right password."""
        right = self.headers.get("Proxy-Authorization") == EXPECTED
        say(f"{self.command} {self.path} {'let in' if right else 'refused'}")
        if not right:
            self.send_response(407)
            self.send_header("Content-Length", "0")
            self.end_headers()
        return right

    def do_POST(self):
        """Hand a request on, and its answer back."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.allowed():
            return
        to = urlsplit(self.path)
        del self.headers["Proxy-Authorization"]
        upstream = http.client.HTTPConnection(to.netloc, timeout=TIMEOUT)
        upstream.request("POST", to.path, body, dict(self.headers))
        answer = upstream.getresponse()
        said = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
        upstream.close()

    def do_CONNECT(self):
        """Join the client with the server that it names, until one of them ends."""
        if not self.allowed():
            return
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port)), TIMEOUT) as upstream:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=copy, args=(upstream, self.connection))
            back.start()
            copy(self.connection, upstream)
            back.join()
        self.close_connection = True


def copy(source, target):
    """Copy bytes until the source ends."""
    try:
        while data := source.recv(CHUNK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    say(server.server_port)
    server.serve_forever()
