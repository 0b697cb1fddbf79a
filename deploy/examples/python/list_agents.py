#!/usr/bin/env python3
"""Lists the agents of a fleet over the public API, with stubs generated from the Protobuf contract.

    list_agents.py --stubs DIR --context FILE

FILE is the context file that the controller writes at its first start (JSON: url, token, ca).
"""

import argparse
import json
import sys
from urllib.parse import urlsplit

PARSER = argparse.ArgumentParser()
PARSER.add_argument("--stubs", required=True, help="folder with the generated Python modules")
PARSER.add_argument("--context", required=True, help="context file of the controller")
ARGUMENTS = PARSER.parse_args()
sys.path.insert(0, ARGUMENTS.stubs)

import grpc  # noqa: E402
from longline.fleet.v1 import agent_service_pb2, agent_service_pb2_grpc  # noqa: E402
from longline.v1 import agent_pb2  # noqa: E402


def main():
    with open(ARGUMENTS.context, encoding="utf-8") as file:
        context = json.load(file)
    credentials = grpc.ssl_channel_credentials(root_certificates=context["ca"].encode())
    with grpc.secure_channel(urlsplit(context["url"]).netloc, credentials) as channel:
        service = agent_service_pb2_grpc.AgentServiceStub(channel)
        request = agent_service_pb2.ListAgentsRequest()
        while True:
            page = service.ListAgents(request, timeout=10, metadata=(("authorization", f"Bearer {context['token']}"),))
            for agent in page.agents:
                print(json.dumps({"id": agent.id, "state": agent_pb2.AgentState.Name(agent.state)}))
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


if __name__ == "__main__":
    main()
