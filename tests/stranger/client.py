"""A client that knows nothing of Sheaf but its address: what there is it learns by reflection.

    client.py HOST:PORT

Registers a module and buckets, lists, watches and deletes them. Ends with 0 if everything was as it should be; prints
one JSON object a line of what it saw.
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

WITHIN = 20


def say(what, **fields):
    print(json.dumps({"what": what, **fields}), flush=True)


class Sheaf:
    """Calls by name, with messages made from what the server says of itself."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def method(self, service, name):
        found = self.pool.FindServiceByName(service).FindMethodByName(name)
        return found, message_factory.GetMessageClass(found.input_type), message_factory.GetMessageClass(found.output_type)

    def call(self, service, name, fields, stream=False, metadata=()):
        _, ask, answer = self.method(service, name)
        make = self.channel.unary_stream if stream else self.channel.unary_unary
        call = make(
            f"/{service}/{name}",
            request_serializer=ask.SerializeToString,
            response_deserializer=answer.FromString,
        )
        return call(json_format.ParseDict(fields, ask()), timeout=WITHIN, metadata=metadata)

    def refused(self, service, name, fields):
        try:
            answer = self.call(service, name, fields)
        except grpc.RpcError as error:
            details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
            return error.code(), error.details(), details
        raise AssertionError(f"{service}/{name} {fields} was answered: {answer}")


def services(sheaf):
    names = set(sheaf.database.get_services())
    wanted = {f"sheaf.v1.{name}Service" for name in ("Bucket", "Module", "Node", "Cluster", "Event")}
    wanted |= {"grpc.health.v1.Health"}
    assert wanted <= names, f"{wanted - names} are not among {names}"
    say("services", names=sorted(names))
    # The same question in the newer version of reflection; its messages are the same on the wire.
    newer = sheaf.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(newer(iter([asked]), timeout=WITHIN))
    assert {service.name for service in answer.list_services_response.service} == names
    health = sheaf.call("grpc.health.v1.Health", "Check", {})
    assert health.status == 1, f"SERVING, not {health}"


def register(sheaf):
    module = {
        "name": "stranger",
        "version": "1",
        "runtime": "exec",
        "exec": {"command": "/bin/sleep", "args": ["${bucket.config.seconds}"]},
    }
    done = sheaf.call("sheaf.v1.ModuleService", "Apply", {"module": module, "request_id": "stranger-module"})
    assert done.outcomes[0].document == "Module stranger@1", done
    checked(sheaf, module)
    revisions = []
    for number in range(3):
        bucket = {
            "name": f"/stranger/{number}",
            "type": "BUCKET_TYPE_ANALYTIC",
            "module": "stranger",
            "config": {"seconds": "100000"},
            "labels": {"by": "stranger"},
        }
        ask = {"bucket": bucket, "request_id": f"stranger-{number}"}
        first = sheaf.call("sheaf.v1.BucketService", "Apply", ask)
        again = sheaf.call("sheaf.v1.BucketService", "Apply", ask)
        assert first == again, f"the same id is answered as the first time: {first} {again}"
        revisions.append(first.revision)
    assert revisions == sorted(set(revisions)), revisions
    say("registered", revisions=revisions)


def checked(sheaf, module):
    """What is to be validated only is answered, and not there afterwards."""
    bucket = {"name": "/stranger/checked", "module": "stranger", "config": {"seconds": "1"}}
    for service, ask, document, key in [
        ("BucketService", {"bucket": bucket}, "Bucket /stranger/checked", {"name": "/stranger/checked"}),
        ("ModuleService", {"module": {**module, "name": "checked"}}, "Module checked@1", {"name": "checked"}),
    ]:
        found = sheaf.call(f"sheaf.v1.{service}", "Apply", {**ask, "validate_only": True})
        assert [outcome.document for outcome in found.outcomes] == [document], found
        code, text, _ = sheaf.refused(f"sheaf.v1.{service}", "Get", key)
        assert code == grpc.StatusCode.NOT_FOUND, (code, text)


def read(sheaf):
    names, token = [], ""
    while True:
        ask = {"page_size": 2, "page_token": token, "filter": "label.by=stranger"}
        page = sheaf.call("sheaf.v1.BucketService", "List", ask)
        names += [row.name for row in page.buckets]
        token = page.next_page_token
        if not token:
            break
    assert names == [f"/stranger/{number}" for number in range(3)], names
    got = sheaf.call("sheaf.v1.BucketService", "Get", {"name": "/stranger/1"})
    assert got.spec.module == "stranger@1" and got.spec.config["seconds"] == "100000", got
    nodes = sheaf.call("sheaf.v1.NodeService", "List", {}).nodes
    status = sheaf.call("sheaf.v1.ClusterService", "Status", {})
    assert status.leader in {node.name for node in nodes}, status
    events = sheaf.call("sheaf.v1.EventService", "List", {"filter": {"subject": "/stranger/2"}}).events
    assert events and events[0].kind == "bucket.created", events
    say("listed", names=names, nodes=[node.name for node in nodes])


def watch(sheaf):
    steps, running = [], False
    watching = sheaf.call("sheaf.v1.BucketService", "Watch", {"name": "/stranger/0"}, stream=True)
    for step in watching:
        kind = step.WhichOneof("change")
        steps.append(kind)
        if kind == "bucket":
            state = step.bucket.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number[step.bucket.state].name
            running = state == "BUCKET_STATE_RUNNING"
        if running and kind == "synced":
            break
    watching.cancel()
    assert steps[0] == "reset" and "synced" in steps, steps
    say("watched", steps=steps)


def wrong(sheaf):
    bad = {"name": "/a/", "module": "none", "node_list_rules": ["/a(/"], "poll_frequency_ms": "0"}
    code, text, details = sheaf.refused("sheaf.v1.BucketService", "Apply", {"bucket": bad})
    assert code == grpc.StatusCode.INVALID_ARGUMENT, (code, text)
    for part in (b"google.rpc.BadRequest", b"node_list_rules[0]", b"name"):
        assert part in details, (part, details)
    stale = {"bucket": {"name": "/stranger/0", "module": "stranger", "config": {"seconds": "1"}}, "base_revision": "1"}
    code, text, _ = sheaf.refused("sheaf.v1.BucketService", "Apply", stale)
    assert code == grpc.StatusCode.ABORTED and "not at 1" in text, (code, text)
    code, text, _ = sheaf.refused("sheaf.v1.BucketService", "Get", {"name": "/none"})
    assert code == grpc.StatusCode.NOT_FOUND and "/none" in text, (code, text)
    say("refused")


def delete(sheaf):
    for number in range(2):
        sheaf.call("sheaf.v1.BucketService", "Delete", {"name": f"/stranger/{number}", "request_id": f"gone-{number}"})
    code, _, _ = sheaf.refused("sheaf.v1.BucketService", "Get", {"name": "/stranger/0"})
    assert code == grpc.StatusCode.NOT_FOUND
    say("deleted")


def main(address):
    sheaf = Sheaf(address)
    for step in (services, register, read, watch, wrong, delete):
        step(sheaf)


if __name__ == "__main__":
    main(sys.argv[1])
