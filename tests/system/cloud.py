"""What stands outside of the machine: both clouds (fakecloud), a network that swallows everything, and clients of the servers."""

import hashlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.request

from box import Failed, until


class Cloud:
    """fakecloud in a process of its own, always on the same ports. A new one has new certificates."""

    PORT = 8700

    def __init__(self, binary):
        self.process = subprocess.Popen([binary, "--port", str(self.PORT), "--quiet"], stdout=subprocess.PIPE, text=True)
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("# Ctrl-C"):
                break
        text = "".join(lines)
        self.providers = re.search(r"^\[providers\.scm\].*?(?=^\[\[certificate)", text, re.M | re.S)[0]
        self.keys = re.search(r'scm.*?access_key = "([^"]+)", secret_key = "([^"]+)".*access_key = "([^"]+)", secret_key = "([^"]+)"', text, re.S).groups()

    def ask(self, method, call):
        request = urllib.request.Request(f"http://127.0.0.1:{self.PORT}/control/{call}", method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            body = answer.read()
        return body.decode() if call.endswith(".pem") else json.loads(body)

    def renew(self, id):
        """Another certificate under another id: (id, fingerprint)."""
        told = self.ask("POST", f"renew?id={id}")
        return told["id"], told["fingerprint"]

    def end(self):
        self.process.kill()
        self.process.wait()


class BlackHole:
    """Takes connections where the clouds were, and never says a word."""

    def __init__(self, ports):
        self.held = []
        self.sockets = [self._listen(port) for port in ports]

    def _listen(self, port):
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._hold, args=[listener], daemon=True).start()
        return listener

    def _hold(self, listener):
        while True:
            try:
                self.held.append(listener.accept()[0])
            except OSError:
                return

    def end(self):
        for listener in self.sockets:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for connection in self.held:
            connection.close()


def shown(port, name):
    """Fingerprint of the certificate that is served; None: nothing is."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
            return hashlib.sha256(tls.getpeercert(binary_form=True)).hexdigest()
    except OSError:
        return None


class Client:
    """Asks a server again and again, each time over a new connection, that is checked against `roots`; remembers what went wrong."""

    def __init__(self, port, name, roots):
        self.port, self.name, self.context = port, name, ssl.create_default_context(cadata=roots)
        self.asked, self.wrong, self.over = 0, [], threading.Event()
        self.thread = threading.Thread(target=self._loop, daemon=True)
        self.thread.start()
        until(f"an answer from port {port}", 20, lambda: self.asked or self.wrong)

    def _loop(self):
        while not self.over.is_set():
            try:
                self._once()
                self.asked += 1
            except (OSError, http.client.HTTPException, Failed) as error:
                self.wrong.append(f"{time.strftime('%X')} {type(error).__name__}: {error}")
            self.over.wait(0.01)

    def _once(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain:
            with self.context.wrap_socket(plain, server_hostname=self.name) as tls:
                tls.sendall(f"GET / HTTP/1.1\r\nHost: {self.name}\r\nConnection: close\r\n\r\n".encode())
                answer = b""
                while chunk := tls.recv(4096):
                    answer += chunk
        if not answer.startswith(b"HTTP/1.1 200"):
            raise Failed(f"answered {answer[:60]!r}")

    def end(self):
        """How often it asked; raises when one answer was wrong or missing."""
        self.over.set()
        self.thread.join(timeout=30)
        if self.wrong:
            raise Failed(f"{len(self.wrong)} of {self.asked + len(self.wrong)} connections to port {self.port} failed: {self.wrong[:3]}")
        return self.asked


class Held:
    """One connection that stays open: the same process must go on answering on it."""

    def __init__(self, port, name, roots):
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.tls = ssl.create_default_context(cadata=roots).wrap_socket(plain, server_hostname=name)
        self.name = name
        self.answers()

    def answers(self):
        self.tls.sendall(f"GET / HTTP/1.1\r\nHost: {self.name}\r\n\r\n".encode())
        if not self.tls.recv(4096).startswith(b"HTTP/1.1 200"):
            raise Failed("the connection that was held is not answered any more")
