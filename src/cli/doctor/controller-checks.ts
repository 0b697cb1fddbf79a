// Checks of the way to the controller: TCP, TLS and its certificate, the clock, and whether the token is taken.

import { connect as connectTcp } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { ConnectError } from '@connectrpc/connect';
import { formatDuration } from '../../core/clock.ts';
import { Fleet } from '../fleet-connection.ts';
import type { OperatorContext } from '../operator-context.ts';
import { type CheckResult, resultsOf } from './check.ts';

const LIMIT_MS = 10_000;
const SKEW_LIMIT_MS = 60_000;
const SKEW_NOTICE_MS = 5_000;
const DAY_MS = 86_400_000;

/** Runs the checks in order; what can't be tried because an earlier one failed is left out. */
export async function checkController(context: OperatorContext): Promise<readonly CheckResult[]> {
  const url = new URL(context.url);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const port = Number(url.port || (url.protocol === 'https:' ? 443 : 80));
  const tcp = await checkTcp(host, port);
  if (tcp.status === 'fail') return [tcp];
  const results = [tcp];
  if (url.protocol === 'https:') {
    const tls = await checkTls(host, port, context.caPem);
    results.push(tls);
    if (tls.status === 'fail') return results;
  }
  results.push(...(await checkCall(context)));
  return results;
}

async function checkTcp(host: string, port: number): Promise<CheckResult> {
  const result = resultsOf('controller: tcp');
  const startMs = performance.now();
  const { promise, resolve } = Promise.withResolvers<CheckResult>();
  const socket = connectTcp({ host, port, timeout: LIMIT_MS });
  const mend = 'check that the controller runs, its address in the context, and firewalls on the way';
  socket.on('connect', () => resolve(result.ok(`${host}:${port} in ${(performance.now() - startMs).toFixed(1)} ms`)));
  socket.on('timeout', () => resolve(result.fail(`${host}:${port} does not answer within ${LIMIT_MS / 1000} s`, mend)));
  socket.on('error', (error) => resolve(result.fail(`${host}:${port}: ${error.message}`, mend)));
  const found = await promise;
  socket.destroy();
  return found;
}

async function checkTls(host: string, port: number, ca: string | undefined): Promise<CheckResult> {
  const result = resultsOf('controller: certificate');
  const { promise, resolve } = Promise.withResolvers<CheckResult>();
  const socket: TLSSocket = connectTls(
    { host, port, timeout: LIMIT_MS, ALPNProtocols: ['h2'], ...(ca === undefined ? {} : { ca }) },
    () => {
      const endMs = Date.parse(socket.getPeerCertificate().valid_to);
      const leftMs = endMs - Date.now();
      const detail = `${socket.getProtocol()}, certificate ends in ${formatDuration(leftMs)}`;
      resolve(
        leftMs < DAY_MS
          ? result.warn(detail, 'the controller renews it by itself; if it does not, see its log')
          : result.ok(detail),
      );
    },
  );
  const mend = 'get a new context file from the controller: its CA or name is not the one the context was made for';
  socket.on('timeout', () =>
    resolve(
      result.fail(
        `no TLS handshake within ${LIMIT_MS / 1000} s`,
        'something else listens there, or a proxy holds the connection',
      ),
    ),
  );
  socket.on('error', (error) => resolve(result.fail(error.message, mend)));
  const found = await promise;
  socket.destroy();
  return found;
}

/** One call tells whether the token is taken and, by its Date header, what time the controller has; good to a second. */
async function checkCall(context: OperatorContext): Promise<readonly CheckResult[]> {
  const result = resultsOf('controller: token');
  using fleet = new Fleet(context, LIMIT_MS);
  const sentMs = Date.now();
  let date: string | null = null;
  try {
    const onHeader = (headers: Headers) => {
      date = headers.get('date');
    };
    const { agents } = await fleet.agents.listAgents({ pageSize: 1 }, { onHeader });
    const detail = `accepted; ${agents.length === 0 ? 'no agents yet' : 'agents are there'}`;
    return [clockResult(date, sentMs), result.ok(detail)];
  } catch (error) {
    if (error instanceof ConnectError) date = error.metadata.get('date');
    const { message } = fleet.toError(error) as Error;
    const mend = 'ask an admin for a token: longline token api create --name YOU --role operator';
    return [clockResult(date, sentMs), result.fail(message, mend)];
  }
}

function clockResult(date: string | null, sentMs: number): CheckResult {
  const result = resultsOf('controller: clock');
  if (date === null) {
    return result.warn('the controller told no time', 'compare the clocks by hand; signed jobs need them within 60 s');
  }
  // The header has whole seconds, so its middle is half a second on.
  const theirsMs = Date.parse(date) + 500;
  const skewMs = Math.abs((sentMs + Date.now()) / 2 - theirsMs);
  const detail = `clocks differ by ${skewMs < 1000 ? 'less than 1s' : formatDuration(skewMs)}`;
  if (skewMs > SKEW_LIMIT_MS) {
    return result.fail(detail, 'set the clock (timedatectl set-ntp true): signed jobs are refused past 60 s');
  }
  return skewMs > SKEW_NOTICE_MS ? result.warn(detail, 'let both hosts follow NTP') : result.ok(detail);
}
