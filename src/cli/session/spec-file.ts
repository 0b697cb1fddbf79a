// Session specs in files: the fields of longline.v1.SessionSpec, and a description for templates.
import { type SessionSpec, SessionSpecSchema } from '#gen/longline/v1/session_pb.js';
import { messageFrom, parseTable, readNamedFile } from '../message-file.ts';

/** A spec with what a template adds to it. */
export interface SpecFile {
  readonly description: string;
  readonly spec: SessionSpec;
}

/** Parses a file's text; `path` says by its ending what it is. Throws `invalid` with everything that is wrong. */
export function parseSpecFile(text: string, path: string): SpecFile {
  const { description = '', ...rest } = parseTable(text, path);
  const wrong = typeof description === 'string' ? [] : [{ field: 'description', description: 'must be a string' }];
  return { description: String(description), spec: messageFrom(SessionSpecSchema, rest, path, wrong) };
}

/** Reads a file that an option or argument names. */
export async function readSpecFile(path: string): Promise<SpecFile> {
  return parseSpecFile(await readNamedFile(path), path);
}
