#!/usr/bin/env python3
"""Polls a URL: each line of its answer that the answer before did not have becomes a line of the bucket's output.

How to run it: Python 3.9 or newer, and `pip install grpcio grpcio-tools`. http_poller.yaml beside this file has its module and
a bucket; both take effect with `sheaf apply -f`. To try it here, without any cluster:

    sheaf module try -f http_poller.yaml -- python3 http_poller.py
    sheaf module try -f http_poller.yaml --conformance -- python3 http_poller.py

It is plain grpcio: all that it knows of Sheaf is what sheaf/module/v1/module.proto says, and what speaks gRPC is made from that
file when it starts. The file is looked for where it lies in Sheaf's sources, or in the folder that PROTO names.

What was seen last is the bucket's checkpoint: the answer's ETag and Last-Modified, so that the server need not send it again, and
a digest of each of its lines. Whichever process comes next, on this node or another, goes on from there. A line is said at least
once: what was printed and could not be noted before the process was killed is printed again, and nothing else.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent import futures
from http.client import HTTPException
from pathlib import Path

import grpc

PROTO = os.environ.get("PROTO") or str(Path(__file__).resolve().parents[2] / "proto")
sys.path.insert(0, PROTO)
messages, services = grpc.protos_and_services("sheaf/module/v1/module.proto")

PROTOCOL = 1
MESSAGE_MAX = 4 << 20
SIZES = [("grpc.max_receive_message_length", MESSAGE_MAX), ("grpc.max_send_message_length", MESSAGE_MAX)]
# An answer of the URL: how long it may take, in seconds, and how much of it there may be. A digest takes 19 bytes of the
# checkpoint, which has 512 KiB.
ANSWER_WITHIN = 20
ANSWER_MAX = 8 << 20
LINES_MAX = 20_000
# How long the cluster is asked again while nobody answers: less than any of our own calls may take.
PATIENCE = 20
FIELDS = {"url", "headers"}


class Wrong(Exception):
    """What is said to people, as it is."""


class Config:
    """A bucket's config: {url: …, headers: {…}}."""

    def __init__(self, bucket):
        fields = json.loads(bucket.config_json or "{}")
        unknown = sorted(set(fields) - FIELDS)
        if unknown:
            raise Wrong(f"config has {', '.join(unknown)}; there are {', '.join(sorted(FIELDS))}")
        self.url = fields.get("url", "")
        self.headers = fields.get("headers", {})
        if not isinstance(self.url, str) or not self.url:
            raise Wrong("config has no url: say what to poll, like http://example.org/list.txt")
        try:
            parts = urllib.parse.urlsplit(self.url)
            parts.port  # a wrong one is found when it is read
        except ValueError as error:
            raise Wrong(f"config.url {self.url}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Wrong(f"config.url {self.url} is no URL of the web: it begins with http:// or https://, and names a host")
        if not isinstance(self.headers, dict) or not all(isinstance(value, str) for value in self.headers.values()):
            raise Wrong("config.headers is a mapping of texts, like {accept: text/plain}")


def ask(url, headers):
    """The answer's lines and its headers; None: it is as it was."""
    request = urllib.request.Request(url, headers={"User-Agent": "sheaf-http-poller", **headers})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_WITHIN) as answer:
            body = answer.read(ANSWER_MAX + 1)
            head = answer.headers
    except urllib.error.HTTPError as error:
        if error.code == 304:
            return None
        raise Wrong(f"{url} answers {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise Wrong(f"{url}: {getattr(error, 'reason', error)}") from error
    if len(body) > ANSWER_MAX:
        raise Wrong(f"{url} answers with more than {ANSWER_MAX >> 20} MiB")
    lines = [line for line in body.decode("utf-8", "replace").splitlines() if line.strip()]
    if len(lines) > LINES_MAX:
        raise Wrong(f"{url} answers with {len(lines)} lines; at most {LINES_MAX} are kept apart")
    return lines, head


def digest(line):
    return hashlib.sha256(line.encode()).hexdigest()[:16]


class Context:
    """What Sheaf does for the bucket's process."""

    def __init__(self, socket):
        # Left alone, grpcio would name the socket's path as the authority, which is no valid one.
        authority = ("grpc.default_authority", "localhost")
        channel = grpc.insecure_channel(f"unix:{socket}", options=[*SIZES, authority])
        self.process = services.ContextServiceStub(channel)
        self.cluster = services.ClusterServiceStub(channel)

    def again(self, call, request):
        """Asks until there is an answer: an agent restarts, a leader is elected."""
        until = time.monotonic() + PATIENCE
        pause = 0.05
        while True:
            try:
                return call(request, timeout=5)
            except grpc.RpcError as error:
                away = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
                if not away or time.monotonic() + pause > until:
                    raise Wrong(f"Sheaf refuses or is away: {error.details()}") from error
            time.sleep(pause)
            pause = min(pause * 2, 1)

    def checkpoint(self):
        text = self.again(self.cluster.GetCheckpoint, messages.GetCheckpointRequest()).checkpoint
        return json.loads(text) if text else {}

    def set_checkpoint(self, checkpoint):
        text = json.dumps(checkpoint, separators=(",", ":")).encode() if checkpoint else b""
        self.again(self.cluster.SetCheckpoint, messages.SetCheckpointRequest(checkpoint=text))

    def set_status(self, line):
        try:
            self.process.SetStatus(messages.SetStatusRequest(line=line.encode()[:500].decode("utf-8", "ignore")), timeout=5)
        except grpc.RpcError as error:
            print(f"nobody hears how it is: {error.details()}", file=sys.stderr, flush=True)


def failing(answers):
    """What is wrong becomes the status of the call, with its text."""

    def answer(self, request, call):
        try:
            return answers(self, request, call)
        except Wrong as wrong:
            call.abort(grpc.StatusCode.FAILED_PRECONDITION, str(wrong))

    return answer


class Poller(services.ModuleServiceServicer):
    """Calls that are not here answer UNIMPLEMENTED, which is right for them."""

    def __init__(self):
        self.context = None
        self.config = None
        self.said = 0

    def Hello(self, request, call):
        return messages.HelloResponse(protocol=PROTOCOL, sdk=f"grpcio {grpc.__version__}")

    def CanRunOnThisNode(self, request, call):
        try:
            Config(request.bucket)
        except Wrong as wrong:
            return messages.CanRunOnThisNodeResponse(can_run=False, reason=str(wrong))
        return messages.CanRunOnThisNodeResponse(can_run=True)

    @failing
    def OnInit(self, request, call):
        self.context = Context(os.environ["SHEAF_CONTEXT_SOCKET"])
        return messages.OnInitResponse()

    @failing
    def OnNewSource(self, request, call):
        self.config = Config(request.bucket)
        if not request.bucket.poll_frequency_ms:
            self.context.set_status("the bucket has no poll_frequency, so nothing is ever polled")
        return messages.OnNewSourceResponse()

    @failing
    def OnUpdatedSource(self, request, call):
        self.config = Config(request.new)
        return messages.OnUpdatedSourceResponse()

    @failing
    def OnPeriodicPoll(self, request, call):
        self.poll()
        return messages.OnPeriodicPollResponse()

    @failing
    def OnPurge(self, request, call):
        self.context.set_checkpoint(None)
        return messages.OnPurgeResponse()

    @failing
    def OnTestSource(self, request, call):
        config = Config(request.bucket)
        answer = ask(config.url, config.headers)
        for line in (answer[0] if answer else [])[: request.max_objects]:
            print(line, flush=True)
        return messages.OnTestSourceResponse()

    def poll(self):
        # Always read anew: a purge has forgotten it, another URL begins from the start.
        known = self.context.checkpoint()
        if known.get("url") != self.config.url:
            known = {}
        headers = dict(self.config.headers)
        if known.get("etag"):
            headers["If-None-Match"] = known["etag"]
        if known.get("modified"):
            headers["If-Modified-Since"] = known["modified"]
        answer = ask(self.config.url, headers)
        if answer is None:
            return
        lines, head = answer
        seen = set(known.get("seen", []))
        new = [line for line in lines if digest(line) not in seen]
        for line in new:
            print(line)
        # First it is said, then it is noted that it was.
        sys.stdout.flush()
        now = {
            "url": self.config.url,
            "etag": head.get("ETag"),
            "modified": head.get("Last-Modified"),
            "seen": sorted({digest(line) for line in lines}),
        }
        if now != known:
            self.context.set_checkpoint(now)
        if new:
            self.said += len(new)
            self.context.set_status(f"{self.said} lines polled")


def main():
    socket = os.environ.get("SHEAF_MODULE_SOCKET")
    if not socket:
        sys.exit("SHEAF_MODULE_SOCKET is not set: Sheaf starts this program, or `sheaf module try`")
    # Up to four questions of gate 3 come at the same time.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=SIZES)
    services.add_ModuleServiceServicer_to_server(Poller(), server)
    server.add_insecure_port(f"unix:{socket}")
    asked_to_end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked_to_end.set())
    server.start()
    asked_to_end.wait()
    server.stop(grace=0).wait()
    sys.stdout.flush()
    os._exit(0)  # a poll that still waits for its answer does not hold it up


if __name__ == "__main__":
    main()
