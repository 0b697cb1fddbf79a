// What the agent's local HTTP API tells: a table, to which parts of the agent add theirs.
//   /healthz, /livez, /readyz and /status are told of where they are made, in health/health-routes.ts and status-route.ts
//   /version    {"version", "build", "node", "platform", "agentId"}
//   /programs   longline.local.v1.ListProgramsResponse in ProtoJSON: {"programs": [{"status": {…}, "figures": {…}}], …}
//   /rollbacks  longline.local.v1.ListRollbacksResponse in ProtoJSON, newest first: {"rollbacks": [{…}]}
//   /telemetry  {"telemetry": [longline.v1.ProgramTelemetry in ProtoJSON]}, of programs that were measured
// Fields without a value are told too; in ProtoJSON 64-bit numbers are text and times are RFC 3339.
import { create, type MessageInitShape, toJson } from '@bufbuild/protobuf';
import { ListProgramsResponseSchema, ListRollbacksResponseSchema } from '#gen/longline/local/v1/local_pb.js';
import { ProgramState, ProgramTelemetrySchema } from '#gen/longline/v1/program_pb.js';
import { AGENT_BUILD, AGENT_VERSION } from '../version.ts';
import { type HttpRoute, jsonAnswer } from './http-server.ts';

/** Programs as the local API tells of them. */
export interface ProgramLists {
  list(): Promise<MessageInitShape<typeof ListProgramsResponseSchema>>;
  rollbacks(): Promise<MessageInitShape<typeof ListRollbacksResponseSchema>>;
}

const ALL_FIELDS = { alwaysEmitImplicit: true } as const;

/** Which agent it is. Open to anybody who reaches the port. */
export function versionRoute(agentId: string): HttpRoute {
  const platform = `${process.platform}/${process.arch}`;
  const version = { version: AGENT_VERSION, build: AGENT_BUILD, node: process.version, platform, agentId };
  return { path: '/version', open: true, answer: async () => jsonAnswer(200, version) };
}

/** Programs, what they do, and when they were rolled back. Not open: they say how the host is watched and guarded. */
export function programRoutes(programs: ProgramLists): readonly HttpRoute[] {
  const listed = async () => create(ListProgramsResponseSchema, await programs.list());
  return [
    {
      path: '/programs',
      open: false,
      answer: async () => jsonAnswer(200, toJson(ListProgramsResponseSchema, await listed(), ALL_FIELDS)),
    },
    {
      path: '/rollbacks',
      open: false,
      answer: async () => {
        const rollbacks = create(ListRollbacksResponseSchema, await programs.rollbacks());
        return jsonAnswer(200, toJson(ListRollbacksResponseSchema, rollbacks, ALL_FIELDS));
      },
    },
    {
      path: '/telemetry',
      open: false,
      answer: async () => {
        const telemetry = (await listed()).programs.flatMap(({ status, figures }) => {
          if (figures === undefined) return [];
          const { name = '', current, state = ProgramState.UNSPECIFIED } = status ?? {};
          const told = create(ProgramTelemetrySchema, { name, state, figures, ...(current && { revision: current }) });
          return [toJson(ProgramTelemetrySchema, told, ALL_FIELDS)];
        });
        return jsonAnswer(200, { telemetry });
      },
    },
  ];
}
