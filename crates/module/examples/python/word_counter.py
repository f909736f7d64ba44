#!/usr/bin/env python3
"""Counts the words of files, for a job: each subtask is about one file, and one process counts many of them.

How to run it: Python 3.9 or newer, and `pip install grpcio grpcio-tools`. word_counter.yaml beside this file has its module and a
job. It is plain grpcio: all that it knows of Sheaf is what sheaf/module/v1/module.proto says at Work, and what speaks gRPC is made
from that file when it starts. The file is looked for where it lies in Sheaf's sources, or in the folder that PROTO names.

A subtask that is to be stopped is left at the end of the line that is being counted.
"""

import itertools
import json
import os
import queue
import signal
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc

PROTO = os.environ.get("PROTO") or str(Path(__file__).resolve().parents[2] / "proto")
sys.path.insert(0, PROTO)
messages, services = grpc.protos_and_services("sheaf/module/v1/module.proto")

PROTOCOL = 1
MESSAGE_MAX = 4 << 20
SIZES = [("grpc.max_receive_message_length", MESSAGE_MAX), ("grpc.max_send_message_length", MESSAGE_MAX)]
AT_ONCE = os.cpu_count() or 1
# Ends that share a message.
TOGETHER = 1000


class Stopped(Exception):
    """The subtask is not wanted any more."""


def count(item, is_unwanted):
    words = 0
    with open(item["file"], "rb") as file:
        for line in file:
            if is_unwanted():
                raise Stopped
            words += len(line.split())
    return words


class Work:
    """One stream of subtasks, and of their ends."""

    def __init__(self):
        self.unwanted = set()
        # Given, and not begun; whoever takes an id out of it answers for it, or begins it.
        self.waiting = set()
        self.lock = threading.Lock()
        self.said = queue.Queue(maxsize=10_000)

    def take(self, requests):
        """Until no more come, and all of them have ended."""
        with futures.ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            try:
                for request in requests:
                    for bundle in request.bundles:
                        with self.lock:
                            self.waiting.update(subtask.id for subtask in bundle.subtasks)
                        pool.submit(self.run, bundle.subtasks)
                    self.stop(request.stop)
            except grpc.RpcError:
                pass  # the caller is gone, and this process soon, too
        self.said.put(None)

    def stop(self, ids):
        """What has not begun is answered at once, also while another one of its bundle runs."""
        for unwanted in ids:
            if self.take_out(unwanted):
                self.say(messages.SubtaskEnd(id=unwanted, result=messages.SUBTASK_RESULT_NOT_BEGUN))
            else:
                self.unwanted.add(unwanted)

    def take_out(self, one):
        with self.lock:
            was_there = one in self.waiting
            self.waiting.discard(one)
            return was_there

    def run(self, subtasks):
        """One after the other."""
        for subtask in subtasks:
            if self.take_out(subtask.id):
                self.say(self.run_one(subtask))

    def run_one(self, subtask):
        def is_unwanted():
            return subtask.id in self.unwanted

        def end(result, message=""):
            self.unwanted.discard(subtask.id)
            return messages.SubtaskEnd(id=subtask.id, result=result, message=message)

        try:
            words = count(json.loads(subtask.item_json), is_unwanted)
        except Stopped:
            return end(messages.SUBTASK_RESULT_STOPPED)
        except Exception as error:  # whatever it is, it is this subtask's failure alone
            return end(messages.SUBTASK_RESULT_FAILED, f"{type(error).__name__}: {error}")
        self.say(messages.SubtaskOutput(id=subtask.id, text=f"{words} words\n".encode()))
        return end(messages.SUBTASK_RESULT_FINISHED)

    def say(self, it):
        self.said.put(it)

    def answers(self):
        """What has come so soon one after the other shares a message; what was printed stands before its end."""
        while True:
            some = [self.said.get()]
            while len(some) < TOGETHER and not self.said.empty():
                some.append(self.said.get())
            last = some[-1] is None
            if last:
                some.pop()
            yield messages.WorkResponse(
                output=[it for it in some if isinstance(it, messages.SubtaskOutput)],
                ends=[it for it in some if isinstance(it, messages.SubtaskEnd)],
            )
            if last:
                return


class WordCounter(services.ModuleServiceServicer):
    """Calls that are not here answer UNIMPLEMENTED, which is right for them."""

    def Hello(self, request, call):
        return messages.HelloResponse(protocol=PROTOCOL, sdk=f"grpcio {grpc.__version__}")

    def Work(self, requests, call):
        first = next(requests, None)
        if first is None or not first.HasField("start"):
            call.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message has no start")
        yield messages.WorkResponse(at_once=AT_ONCE)
        work = Work()
        threading.Thread(target=work.take, args=(itertools.chain([first], requests),), daemon=True).start()
        yield from work.answers()


def main():
    socket = os.environ.get("SHEAF_MODULE_SOCKET")
    if not socket:
        sys.exit("SHEAF_MODULE_SOCKET is not set: Sheaf starts this program")
    # Up to four questions of gate 3 come at the same time; Work holds one thread.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=5), options=SIZES)
    services.add_ModuleServiceServicer_to_server(WordCounter(), server)
    server.add_insecure_port(f"unix:{socket}")
    asked_to_end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked_to_end.set())
    server.start()
    asked_to_end.wait()
    server.stop(grace=0).wait()
    os._exit(0)  # threads that still count do not hold it up


if __name__ == "__main__":
    main()
