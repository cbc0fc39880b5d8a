# SPDX-License-Identifier: Apache-2.0
"""An HTTP proxy before a real S3 server that answers some requests badly on purpose.

The signature of a request covers its Host header, which is passed on as it came, so
the server behind accepts what was signed for the proxy.
"""

import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.processes import free_port


class Fault(StrEnum):
    """What is done to a request."""

    #: 500 without an answer from the server.
    ERROR = "error"
    #: 503 SlowDown, as a busy store says.
    SLOW_DOWN = "slow_down"
    #: No answer for longer than the client waits, then a closed connection.
    SILENCE = "silence"
    #: The right headers, half of the body.
    TRUNCATED = "truncated"
    #: The server did it, and its answer was lost.
    ANSWER_LOST = "answer_lost"


#: Decides what is done to a request: method, path -> fault or None.
FaultPlan = Callable[[str, str], Fault | None]

#: Headers that are of one connection, and that the proxy writes itself.
_OF_THE_LINE = {"transfer-encoding", "connection", "content-length"}
_BUSY = (
    b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"
)
_BROKEN = b"<Error><Code>InternalError</Code><Message>We failed</Message></Error>"


@dataclass
class S3FaultProxy:
    """What is asked of the proxy, and what it did.

    Attributes:
        target_port: Of the server behind.
        plan: Decides about each request; it may be replaced at any time.
        silence_s: How long a silent request is held.
        done: How often each fault was done.
        after: Told of each request that the server has done, before its answer is
            passed on: method, path, status.
    """

    target_port: int
    plan: FaultPlan = lambda _method, _path: None
    silence_s: float = 1.0
    done: Counter[Fault] = field(default_factory=Counter)
    after: Callable[[str, str, int], None] = lambda _method, _path, _status: None
    port: int = field(default_factory=free_port)

    def serve(self) -> ThreadingHTTPServer:
        """Return the server, listening in a thread of its own."""
        proxy = self

        class Handler(_Handler):
            faults = proxy

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: S3FaultProxy

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(length)
        fault = self.faults.plan(self.command, self.path)
        if fault is not None:
            self.faults.done[fault] += 1
        if fault is Fault.ERROR:
            return self._answer(500, [], _BROKEN)
        if fault is Fault.SLOW_DOWN:
            return self._answer(503, [], _BUSY)
        if fault is Fault.SILENCE:
            time.sleep(self.faults.silence_s)
            return self._hang_up()
        status, headers, content = self._ask(body)
        self.faults.after(self.command, self.path, status)
        if fault is Fault.ANSWER_LOST:
            return self._hang_up()
        if fault is Fault.TRUNCATED and content:
            self._answer(status, headers, content[: len(content) // 2], len(content))
            return self._hang_up()
        return self._answer(status, headers, content)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _handle  # noqa: N815

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return what the server behind answers."""
        line = http.client.HTTPConnection("127.0.0.1", self.faults.target_port, 60)
        try:
            line.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in {"connection", "expect"}:
                    line.putheader(name, value)
            line.endheaders(body)
            answer = line.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            line.close()

    def _answer(
        self,
        status: int,
        headers: list[tuple[str, str]],
        content: bytes,
        announced: int | None = None,
    ) -> None:
        self.send_response_only(status)
        given = {name.lower() for name, _value in headers}
        for name, value in headers:
            if name.lower() not in {
                "transfer-encoding",
                "connection",
                "content-length",
            }:
                self.send_header(name, value)
        length = len(content) if announced is None else announced
        if self.command == "HEAD":
            values = {name.lower(): value for name, value in headers}
            self.send_header("Content-Length", values.get("content-length", "0"))
        elif "content-length" in given or content or status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
            self.wfile.flush()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


@contextmanager
def s3_fault_proxy(target_port: int) -> Iterator[S3FaultProxy]:
    """Lend a proxy before the S3 server on that port; it passes everything on."""
    proxy = S3FaultProxy(target_port)
    server = proxy.serve()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
