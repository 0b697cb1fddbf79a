// Frames of a tunnel as messages of the contract: the same on every hop, from the caller to the controller and on to the
// agent, so the forms are named here and not by one service's generated types. Pure.
import { LonglineError } from '../errors.ts';
import type { TunnelFrame } from './tunnel-frame.ts';

interface DataMessage<Case extends string> {
  readonly case: Case;
  readonly value: Uint8Array;
}

type SharedMessage =
  | DataMessage<'data'>
  | { readonly case: 'halfClose'; readonly value: object }
  | { readonly case: 'window'; readonly value: { readonly taken: bigint } };

/** What goes from a caller towards the target. */
export type InwardMessage =
  | SharedMessage
  | { readonly case: 'resize'; readonly value: { readonly columns: number; readonly rows: number } }
  | { readonly case: 'signal'; readonly value: { readonly name: string } };

/** What comes from the target towards the caller. */
export type OutwardMessage =
  | SharedMessage
  | DataMessage<'stderr'>
  | { readonly case: 'exit'; readonly value: { readonly code: number; readonly signal: string } };

/** Messages of a hop that are no frames: its opening, its failure, and kinds of a later version. */
interface NoFrame {
  readonly case: 'open' | 'opened' | 'failed' | undefined;
}

/** A frame of the caller; undefined for what is none. */
export function inwardFrame(message: InwardMessage | NoFrame): TunnelFrame | undefined {
  switch (message.case) {
    case 'resize':
      return { kind: 'resize', size: { columns: message.value.columns, rows: message.value.rows } };
    case 'signal':
      return { kind: 'signal', signal: message.value.name };
    default:
      return sharedFrame(message);
  }
}

/** A frame of the target; undefined for what is none. */
export function outwardFrame(message: OutwardMessage | NoFrame): TunnelFrame | undefined {
  switch (message.case) {
    case 'stderr':
      return { kind: 'stderr', data: message.value };
    case 'exit':
      return { kind: 'exit', code: message.value.code, signal: message.value.signal };
    default:
      return sharedFrame(message);
  }
}

/** The message for a frame of the caller. Throws `internal` for one that only a target sends. */
export function inwardMessage(frame: TunnelFrame): InwardMessage {
  switch (frame.kind) {
    case 'resize':
      return { case: 'resize', value: { columns: frame.size.columns, rows: frame.size.rows } };
    case 'signal':
      return { case: 'signal', value: { name: frame.signal } };
    default:
      return sharedMessage(frame) ?? wrongWay(frame, 'towards the target');
  }
}

/** The message for a frame of the target. Throws `internal` for one that only a caller sends. */
export function outwardMessage(frame: TunnelFrame): OutwardMessage {
  switch (frame.kind) {
    case 'stderr':
      return { case: 'stderr', value: frame.data };
    case 'exit':
      return { case: 'exit', value: { code: frame.code, signal: frame.signal } };
    default:
      return sharedMessage(frame) ?? wrongWay(frame, 'towards the caller');
  }
}

function sharedFrame(message: { readonly case: string | undefined } | SharedMessage): TunnelFrame | undefined {
  if (!('value' in message)) return undefined;
  switch (message.case) {
    case 'data':
      return { kind: 'data', data: message.value };
    case 'halfClose':
      return { kind: 'half_close' };
    case 'window':
      return { kind: 'window', taken: Number(message.value.taken) };
    default:
      return undefined;
  }
}

function sharedMessage(frame: TunnelFrame): SharedMessage | undefined {
  switch (frame.kind) {
    case 'data':
      return { case: 'data', value: frame.data };
    case 'half_close':
      return { case: 'halfClose', value: {} };
    case 'window':
      return { case: 'window', value: { taken: BigInt(frame.taken) } };
    default:
      return undefined;
  }
}

function wrongWay({ kind }: TunnelFrame, way: string): never {
  throw new LonglineError('internal', `no "${kind}" goes ${way}`);
}
