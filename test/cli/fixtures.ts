// What the tests of the command line share: a CliIo on memory, and a scripted controller on loopback.
import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createSecureServer, type Http2SecureServer, type ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, type Readable, Writable } from 'node:stream';
import type { ConnectRouter, ServiceImpl } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import 'reflect-metadata';
import * as x509 from '@peculiar/x509';
import { AgentService } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { JobService } from '#gen/longline/fleet/v1/job_service_pb.js';
import { NetworkService } from '#gen/longline/fleet/v1/network_service_pb.js';
import { ProgramService } from '#gen/longline/fleet/v1/program_service_pb.js';
import { SessionService } from '#gen/longline/fleet/v1/session_service_pb.js';
import { TokenService } from '#gen/longline/fleet/v1/token_service_pb.js';
import { CliIo } from '../../src/cli/io.ts';
import { run } from '../../src/cli/run.ts';
import { newTestKeys, privateKeyPem, TEST_KEY_ALGORITHM } from '../fixtures/pem.ts';

/** Keeps what is written; can stand for a terminal. */
export class MemoryOutput extends Writable {
  readonly chunks: Buffer[] = [];
  readonly isTTY: boolean;
  readonly columns = 100;

  constructor(isTty = false) {
    super();
    this.isTTY = isTty;
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.chunks.push(chunk);
    done();
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  get text(): string {
    return this.bytes.toString('utf8');
  }
}

/** How to run a command. */
export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: Readable;
  readonly tty?: boolean;
  /** Where its output goes, for whoever looks at it while the command runs. */
  readonly stdout?: MemoryOutput;
  readonly stderr?: MemoryOutput;
}

/** How a command ended. */
export interface RunResult {
  readonly code: number;
  readonly stdout: Buffer;
  readonly out: string;
  readonly err: string;
  /** Standard output as JSON. */
  json(): unknown;
}

/** Runs the command line in this process. */
export async function runCli(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { stdout = new MemoryOutput(options.tty), stderr = new MemoryOutput(options.tty) } = options;
  const stdin = options.stdin ?? new PassThrough().end();
  const io = new CliIo({ stdin, stdout, stderr, env: { HOME: '/nonexistent', ...options.env } });
  await run(argv, io);
  return {
    code: io.exitCode,
    stdout: stdout.bytes,
    out: stdout.text,
    err: stderr.text,
    json: () => JSON.parse(stdout.text),
  };
}

/** What a scripted controller answers; calls that aren't scripted are UNIMPLEMENTED. */
export interface Script {
  readonly agents?: Partial<ServiceImpl<typeof AgentService>>;
  readonly jobs?: Partial<ServiceImpl<typeof JobService>>;
  readonly networks?: Partial<ServiceImpl<typeof NetworkService>>;
  readonly programs?: Partial<ServiceImpl<typeof ProgramService>>;
  readonly sessions?: Partial<ServiceImpl<typeof SessionService>>;
  readonly tokens?: Partial<ServiceImpl<typeof TokenService>>;
}

/** A controller that does as it is told. */
export interface ScriptedFleet extends AsyncDisposable {
  readonly url: string;
  readonly folder: string;
  /** Context file for --context. */
  readonly contextPath: string;
  /** Value of the authorization header of the latest call. */
  readonly authorization: string | undefined;
  /** Cuts every connection without a word. */
  cut(): void;
}

const TOKEN = 'lla1.test';
let identity: Promise<{ readonly key: string; readonly cert: string }> | undefined;

/** Starts it on loopback with a certificate of its own. */
export async function startFleet(script: Script): Promise<ScriptedFleet> {
  identity ??= makeIdentity();
  const { key, cert } = await identity;
  let authorization: string | undefined;
  const routes = (router: ConnectRouter) => {
    router.service(AgentService, script.agents ?? {});
    router.service(JobService, script.jobs ?? {});
    router.service(NetworkService, script.networks ?? {});
    router.service(ProgramService, script.programs ?? {});
    router.service(SessionService, script.sessions ?? {});
    router.service(TokenService, script.tokens ?? {});
  };
  const handler = connectNodeAdapter({ routes });
  const sessions = new Set<ServerHttp2Session>();
  const server: Http2SecureServer = createSecureServer({ key, cert }, (request, response) => {
    authorization = request.headers.authorization;
    handler(request, response);
  });
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', resolve);
  await promise;
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const folder = await mkdtemp(join(tmpdir(), 'longline-cli-'));
  const contextPath = join(folder, 'context.json');
  await writeFile(contextPath, JSON.stringify({ url, token: TOKEN, ca: cert, controller_id: randomUUID() }), {
    mode: 0o600,
  });
  await chmod(contextPath, 0o600);
  const cut = () => {
    for (const session of sessions) session.socket.destroy();
  };
  return {
    url,
    folder,
    contextPath,
    get authorization() {
      return authorization;
    },
    cut,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise<void>((done) => {
        server.close(() => done());
      });
      for (const session of sessions) session.destroy();
      await closed;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function makeIdentity(): Promise<{ readonly key: string; readonly cert: string }> {
  const keys = await newTestKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: 'CN=longline test',
    notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + 7 * 86_400_000),
    signingAlgorithm: TEST_KEY_ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.SubjectAlternativeNameExtension([{ type: 'ip', value: '127.0.0.1' }]),
    ],
  });
  return { key: await privateKeyPem(keys.privateKey), cert: certificate.toString('pem') };
}
