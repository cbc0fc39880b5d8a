# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy before a real server, whose connections a test can cut."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.processes import free_port


class TcpProxy:
    """Passes bytes on both ways until a test cuts the line.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        refuses: New connections are closed at once while this is set.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.refuses = False
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """Every connection of the moment is gone; return how many there were."""
        with self._lock:
            live, self._open = self._open, set()
        for end in live:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(live) // 2

    def close(self) -> None:
        """Nobody listens any more."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port), 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            threading.Thread(target=self._pass, args=(client, server)).start()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        with selectors.DefaultSelector() as ready:
            for end in other:
                ready.register(end, selectors.EVENT_READ)
            with contextlib.suppress(OSError):
                while True:
                    for key, _events in ready.select():
                        end = key.fileobj
                        assert isinstance(end, socket.socket)
                        data = end.recv(65536)
                        if not data:
                            raise ConnectionResetError
                        other[end].sendall(data)
        with self._lock:
            self._open -= {client, server}
        for end in other:
            end.close()


@contextmanager
def tcp_proxy(target_port: int) -> Iterator[TcpProxy]:
    """Lend a proxy before the server on that port."""
    proxy = TcpProxy(target_port)
    try:
        yield proxy
    finally:
        proxy.close()
