// EnrollmentService on both stacks. On the operators' stack a host has no certificate yet, so only Enroll works there.
import type { ConnectRouter } from '@connectrpc/connect';
import { EnrollmentService } from '#gen/longline/link/v1/enrollment_pb.js';
import { LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { type GrpcServiceRegistry, serveGrpc } from '../front/grpc-service.ts';
import type { AgentAuthenticator } from './agent-authentication.ts';
import type { Enrollment } from './enrollment.ts';

type Enrolling = Pick<Enrollment, 'enroll' | 'renew'>;

/** Adds Enroll, and a Renew that says where to go, to the Connect stack. */
export function enrollmentRoutes(router: ConnectRouter, enrollment: Enrolling): void {
  router.service(EnrollmentService, {
    enroll: (request) => enrollment.enroll(request),
    renew: () => {
      throw new LonglineError(
        'identity',
        'no client certificate; Renew is served over a connection made with the current one',
      );
    },
  });
}

/** Adds Enroll and Renew to the agents' stack. */
export function serveEnrollment(
  registry: GrpcServiceRegistry,
  enrollment: Enrolling,
  agents: AgentAuthenticator,
  log: Logger,
): void {
  serveGrpc(
    registry,
    EnrollmentService,
    {
      enroll: (call) => enrollment.enroll(call.request),
      renew: async (call) => {
        const agent = await agents.authenticate(call);
        if (agent.via === 'certificate') return await enrollment.renew(agent, call.request.certificateRequest);
        throw new LonglineError(
          'identity',
          `agent ${agent.agentId} has an API key and no certificate to renew; enrol with a token to get one`,
        );
      },
    },
    log,
  );
}
