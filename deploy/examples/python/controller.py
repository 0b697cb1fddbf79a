#!/usr/bin/env python3
"""A whole controller in one file, written from the Protobuf contract alone.

It serves one agent that authenticates by API key, wants no network of it, sends it one job signed with a shared secret,
stores the output in memory and prints what happens as JSON lines: "listening", "hello", "state", "received", "progress",
"output", "result", "closed". Exits 0 once result and log are complete, and it is known what became of the desired state.

    controller.py --stubs DIR --api-key HEX64 --secret HEX --key-id ID --image IMAGE -- PROGRAM [ARG…]

The stubs come from protoc with the Python and gRPC plug-ins; see README.md beside this file.
"""

import argparse
import hashlib
import hmac
import json
import os
import queue
import sys
import threading
import time
import uuid
from concurrent import futures


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--stubs", required=True, help="folder with the generated Python modules")
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--api-key", required=True, help="64 hex characters that the agent must present")
    parser.add_argument("--controller-id", default="python-controller")
    parser.add_argument("--key-id", required=True, help="key id as named in the agent's trust file")
    parser.add_argument("--secret", required=True, help="HMAC secret shared with the agent, hex")
    parser.add_argument("--image", required=True)
    parser.add_argument("--limit-s", type=float, default=60, help="give up after this many seconds")
    parser.add_argument("argv", nargs="+")
    return parser.parse_args()


ARGUMENTS = parse_arguments()
sys.path.insert(0, ARGUMENTS.stubs)

import grpc  # noqa: E402
from google.protobuf import duration_pb2, timestamp_pb2  # noqa: E402
from longline.link.v1 import link_pb2, link_pb2_grpc  # noqa: E402
from longline.v1 import agent_pb2, error_pb2, job_pb2, network_pb2, signature_pb2  # noqa: E402

STATEMENT_TYPE = "application/vnd.longline.statement.v1+protobuf"
STREAM_END = object()


def say(event, **facts):
    print(json.dumps({"event": event, **facts}), flush=True)


def timestamp(seconds):
    whole = int(seconds)
    return timestamp_pb2.Timestamp(seconds=whole, nanos=int((seconds - whole) * 1e9))


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def pre_auth_encoding(payload_type, payload):
    """The DSSE pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def signed_statement(agent_id, action):
    now = time.time()
    statement = signature_pb2.Statement(
        nonce=os.urandom(24),
        controller_id=ARGUMENTS.controller_id,
        audience=agent_pb2.Selector(agent_ids=[agent_id]),
        issue_time=timestamp(now),
        expire_time=timestamp(now + 300),
        action=action,
    )
    payload = statement.SerializeToString()
    mac = hmac.new(bytes.fromhex(ARGUMENTS.secret), pre_auth_encoding(STATEMENT_TYPE, payload), hashlib.sha256)
    return signature_pb2.SignedPayload(
        payload_type=STATEMENT_TYPE,
        payload=payload,
        signatures=[
            signature_pb2.Signature(
                key_id=ARGUMENTS.key_id,
                algorithm=signature_pb2.SIGNATURE_ALGORITHM_HMAC_SHA256,
                value=mac.digest(),
            )
        ],
    )


def job_action():
    job = job_pb2.JobSpec(argv=ARGUMENTS.argv, image=ARGUMENTS.image)
    return signature_pb2.Action(job=signature_pb2.JobAction(run=job))


def desired_networks(agent_id, generation):
    """A full state without any network, with the permit that lets it be brought about."""
    body = network_pb2.NetworkDesiredState()
    body_sha256 = hashlib.sha256(body.SerializeToString()).digest()
    permit = network_pb2.NetworkStatePermit(generation=generation, body_sha256=body_sha256)
    action = signature_pb2.Action(network=network_pb2.NetworkAction(permit=permit))
    return link_pb2.DesiredState(
        kind=link_pb2.DESIRED_STATE_KIND_NETWORK,
        generation=generation,
        statement=signed_statement(agent_id, action),
        network=body,
    )


class Log:
    """Output of one execution: bytes and digest per stream."""

    def __init__(self):
        self.data = {}

    def append(self, chunk):
        if crc32c(chunk.data) != chunk.crc32c:
            raise ValueError(f"chunk of {chunk.stream} at {chunk.offset} is damaged")
        kept = self.data.setdefault(chunk.stream, bytearray())
        if chunk.offset > len(kept):
            raise ValueError(f"{chunk.stream} jumps from {len(kept)} to {chunk.offset}")
        kept[chunk.offset :] = chunk.data

    def offsets(self):
        return {stream: len(kept) for stream, kept in self.data.items()}

    def disagreement(self, close):
        for end in close.streams:
            kept = bytes(self.data.get(end.stream, b""))
            if len(kept) != end.length or hashlib.sha256(kept).digest() != end.sha256:
                return f"{end.stream}: {len(kept)} bytes here, {end.length} there"
        return None


class Controller(link_pb2_grpc.AgentLinkServiceServicer):
    def __init__(self):
        self.command_id = str(uuid.uuid4())
        self.command = None
        self.logs = {}
        self.result_stored = threading.Event()
        self.log_closed = threading.Event()
        self.state_known = threading.Event()

    @staticmethod
    def check_identity(context):
        metadata = dict(context.invocation_metadata())
        if metadata.get("authorization") != f"Bearer {ARGUMENTS.api_key}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown API key")
        return metadata.get("longline-agent-id", "")

    def Control(self, requests, context):
        agent_id = self.check_identity(context)
        outgoing = queue.Queue()

        def receive():
            try:
                for message in requests:
                    self.on_agent_message(agent_id, message, outgoing)
            except grpc.RpcError:
                pass  # The stream ended; the agent will come back.
            finally:
                outgoing.put(STREAM_END)

        threading.Thread(target=receive, daemon=True).start()
        beats = 0
        while True:
            try:
                message = outgoing.get(timeout=5)
            except queue.Empty:
                beats += 1
                heartbeat = link_pb2.ControllerHeartbeat(number=beats, time=timestamp(time.time()))
                message = link_pb2.ControllerMessage(heartbeat=heartbeat)
            if message is STREAM_END:
                return
            yield message

    def on_agent_message(self, agent_id, message, outgoing):
        kind = message.WhichOneof("message")
        if kind == "hello":
            hello = message.hello
            say("hello", agent_id=hello.agent_id, protocol_max=hello.protocol_max)
            welcome = link_pb2.Welcome(
                protocol=1,
                session_token=os.urandom(16),
                heartbeat_interval=duration_pb2.Duration(seconds=15),
                max_message_bytes=4 << 20,
                server_time=timestamp(time.time()),
                need_facts=not hello.HasField("facts"),
                controller_id=ARGUMENTS.controller_id,
            )
            outgoing.put(link_pb2.ControllerMessage(welcome=welcome))
            if self.command is None:
                now = time.time()
                self.command = link_pb2.Command(
                    seq=1,
                    id=self.command_id,
                    statement=signed_statement(hello.agent_id, job_action()),
                    issue_time=timestamp(now),
                    expire_time=timestamp(now + 300),
                )
            if not any(ref.kind == link_pb2.DESIRED_STATE_KIND_NETWORK for ref in hello.desired_states):
                state = desired_networks(hello.agent_id, generation=1)
                outgoing.put(link_pb2.ControllerMessage(desired_state=state))
            if not self.result_stored.is_set():
                # The same id again never runs twice, so sending it after every hello is safe.
                outgoing.put(link_pb2.ControllerMessage(command=self.command))
        elif kind == "state_report" and message.state_report.kind == link_pb2.DESIRED_STATE_KIND_NETWORK:
            report = message.state_report
            error = error_pb2.ErrorReason.Name(report.error.reason) if report.HasField("error") else None
            say("state", generation=report.generation, digest=report.digest.hex(), error=error)
            self.state_known.set()
        elif kind == "received":
            say("received", command_id=message.received.command_id)
        elif kind == "progress":
            say("progress", step=message.progress.job.WhichOneof("step"))
        elif kind in ("result", "rejected"):
            self.on_end(kind, message, outgoing)

    def on_end(self, kind, message, outgoing):
        if kind == "result":
            result = message.result
            say(
                "result",
                outcome=link_pb2.Outcome.Name(result.outcome),
                exit_code=result.job.exit_code if result.job.HasField("exit_code") else None,
                stdout_bytes=result.job.stdout_bytes,
                message=result.error.message or result.job.error.message,
            )
        else:
            result = message.rejected
            say("rejected", message=result.error.message, rule=result.error.rule)
            self.log_closed.set()
        self.result_stored.set()
        ack = link_pb2.ResultAck(command_ids=[result.command_id])
        outgoing.put(link_pb2.ControllerMessage(result_ack=ack))

    def Logs(self, requests, context):
        self.check_identity(context)
        handles = {}
        for message in requests:
            kind = message.WhichOneof("message")
            if kind == "open":
                log = self.logs.setdefault(message.open.log_id, Log())
                handles[message.open.handle] = log
                resume = link_pb2.LogResume(handle=message.open.handle, offsets=log.offsets())
                yield link_pb2.LogsResponse(resume=resume)
            elif kind == "batch":
                log = handles[message.batch.handle]
                for chunk in message.batch.chunks:
                    log.append(chunk)
                    say("output", stream=chunk.stream, data=chunk.data.decode("utf-8", "replace"))
                ack = link_pb2.LogAck(handle=message.batch.handle, offsets=log.offsets())
                yield link_pb2.LogsResponse(ack=ack)
            elif kind == "end":
                problem = handles[message.end.handle].disagreement(message.end.close)
                say("closed", problem=problem)
                yield link_pb2.LogsResponse(end_ack=link_pb2.LogEndAck(handle=message.end.handle))
                self.log_closed.set()

    def Telemetry(self, requests, context):
        self.check_identity(context)
        for _ in requests:
            pass
        return iter(())


def main():
    controller = Controller()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    link_pb2_grpc.add_AgentLinkServiceServicer_to_server(controller, server)
    host = ARGUMENTS.listen.rsplit(":", 1)[0]
    port = server.add_insecure_port(ARGUMENTS.listen)
    server.start()
    say("listening", url=f"http://{host}:{port}")
    deadline = time.monotonic() + ARGUMENTS.limit_s
    done = all(
        event.wait(max(0, deadline - time.monotonic()))
        for event in (controller.result_stored, controller.log_closed, controller.state_known)
    )
    # Time for the last acknowledgements to leave.
    server.stop(grace=1).wait()
    if not done:
        say("gave_up", after_s=ARGUMENTS.limit_s)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
