// The methods of SessionService that keep templates.
import { toBinary } from '@bufbuild/protobuf';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { PutTemplateRequestSchema, type SessionService } from '#gen/longline/fleet/v1/session_service_pb.js';
import { SessionSpecSchema } from '#gen/longline/v1/session_pb.js';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import { callerOf } from '../identity/authorization.ts';
import { contentHash } from './content-hash.ts';
import { pageQuery } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { nameViolations } from './session-request.ts';
import { sessionSpecViolations } from './session-spec-shape.ts';
import { templateView } from './session-views.ts';

const MAX_DESCRIPTION_BYTES = 1024;

type TemplateMethods = Pick<
  ServiceImpl<typeof SessionService>,
  'putTemplate' | 'getTemplate' | 'listTemplates' | 'deleteTemplate'
>;

function checkName(name: string): void {
  const violations = nameViolations(name, 'name');
  if (violations.length > 0) throw invalid(violations);
}

const missing = (name: string, version: number): LonglineError => {
  const which = version === 0 ? '' : ` with version ${version}`;
  return new LonglineError('not_found', `no template has name ${name}${which}`);
};

/** Templates over the store. */
export function templateMethods({ store, clock }: ServiceDependencies): TemplateMethods {
  return {
    async putTemplate(request, context: HandlerContext) {
      const { name, spec, description, baseVersion } = request;
      const violations: FieldViolation[] = [...nameViolations(name, 'name')];
      const bytes = Buffer.byteLength(description);
      if (bytes > MAX_DESCRIPTION_BYTES) {
        const most = `at most ${MAX_DESCRIPTION_BYTES} are allowed`;
        violations.push({ field: 'description', description: `has ${bytes} bytes; ${most}` });
      }
      if (spec === undefined) violations.push({ field: 'spec', description: 'is missing' });
      else violations.push(...sessionSpecViolations(spec, 'spec'));
      if (violations.length > 0 || spec === undefined) throw invalid(violations);
      if (spec.vnc !== undefined) spec.vnc.passwordSet = false;
      const content = { ...request, baseVersion: 0 };
      const outcome = await store.templates.put({
        name,
        spec: toBinary(SessionSpecSchema, spec),
        description,
        contentHash: contentHash(PutTemplateRequestSchema, content),
        baseVersion,
        createdAtMs: clock.now(),
        creator: callerOf(context).name,
      });
      if (outcome.kind === 'conflict') {
        const is = outcome.latest === 0 ? 'there is none' : `the latest is ${outcome.latest}`;
        throw new LonglineError('stale', `template ${name} was to be changed from version ${baseVersion}, but ${is}`);
      }
      return { template: templateView(outcome.template), changed: outcome.kind === 'stored' };
    },

    async getTemplate({ name, version }) {
      checkName(name);
      const template = await store.templates.get(name, version);
      if (template === undefined) throw missing(name, version);
      return { template: templateView(template) };
    },

    async listTemplates(request) {
      if (request.name !== '') checkName(request.name);
      const page = pageQuery(request);
      const { items, nextPageToken } =
        request.name === '' ? await store.templates.list(page) : await store.templates.versions(request.name, page);
      return { templates: items.map(templateView), nextPageToken };
    },

    async deleteTemplate({ name }) {
      checkName(name);
      if (!(await store.templates.delete(name))) throw missing(name, 0);
      return {};
    },
  };
}
