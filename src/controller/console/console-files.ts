// The pages that a controller serves to browsers: a view of a session's screen, and noVNC from its npm package as it is.
// Files are found by a fixed table and a strict pattern, never by joining what a request says. Nothing on these pages runs
// inline, comes from elsewhere, or may be framed.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { HttpRequest as Request, RequestHandler, HttpResponse as Response } from '../front/http-handlers.ts';

const PAGE = /^\/sessions\/[^/]{1,200}\/view$/;
/** One or more folders of letters, then a script: no dots but the last, so no way up. */
const NOVNC = /^\/console\/novnc\/((?:core|vendor)(?:\/[A-Za-z0-9_-]+)*\/[A-Za-z0-9_-]+\.js)$/;

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
};

/** What the page may do: its own scripts and styles, and WebSockets to where it came from. noVNC draws cursors as data URLs. */
function contentSecurityPolicy(host: string): string {
  const sockets = /^[A-Za-z0-9.:[\]-]+$/.test(host) ? ` wss://${host}` : '';
  return (
    `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'${sockets}; ` +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  );
}

/** Answers GET and HEAD of the pages, and 404 to all else. */
export function consolePages(log: Logger): RequestHandler {
  const places = { view: viewFolder(), novnc: new URL('..', import.meta.resolve('@novnc/novnc')) };
  return (request, response) => {
    const file = fileOf(request.url?.split('?', 1)[0] ?? '', places);
    if (file === undefined) return answer(response, 404, {}, '');
    if (request.method !== 'GET' && request.method !== 'HEAD') return answer(response, 405, { allow: 'GET, HEAD' }, '');
    readFile(file).then(
      (body) => answer(response, 200, headersOf(request, file), request.method === 'HEAD' ? '' : body),
      (error: unknown) => {
        const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
        if (!missing) log.error('a page can not be read', { path: file.pathname, err: describeError(error) });
        answer(response, missing ? 404 : 500, {}, '');
      },
    );
  };
}

interface Places {
  readonly view: URL;
  readonly novnc: URL;
}

/** Pages are files and stay such in a bundle, which lies elsewhere: they are looked for from here upwards. */
function viewFolder(): URL {
  for (let at = new URL('.', import.meta.url); ; at = new URL('..', at)) {
    const folder = new URL('src/console/view/', at);
    if (existsSync(new URL('view.html', folder))) return folder;
    if (at.pathname === '/') {
      throw new LonglineError('internal', `src/console/view is in no folder above ${import.meta.url}`);
    }
  }
}

function fileOf(path: string, { view, novnc }: Places): URL | undefined {
  if (PAGE.test(path)) return new URL('view.html', view);
  if (path === '/console/view.js' || path === '/console/view.css') return new URL(path.slice('/console/'.length), view);
  const script = NOVNC.exec(path)?.[1];
  return script === undefined ? undefined : new URL(script, novnc);
}

function headersOf(request: Request, file: URL): OutgoingHttpHeaders {
  const extension = file.pathname.slice(file.pathname.lastIndexOf('.') + 1);
  const host = request.headers[':authority'] ?? request.headers.host ?? '';
  return {
    'content-type': TYPES[extension],
    'content-security-policy': contentSecurityPolicy(String(host)),
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'cache-control': extension === 'html' ? 'no-store' : 'no-cache',
  };
}

function answer(response: Response, status: number, headers: OutgoingHttpHeaders, body: Buffer | string): void {
  if (response.headersSent || response.destroyed) return;
  const length = typeof body === 'string' && body === '' ? {} : { 'content-length': Buffer.byteLength(body) };
  (response as ServerResponse).writeHead(status, { ...headers, ...length });
  response.end(body);
}
