// Attaches functions that are loaded, has other functions take their place, and detaches them: what the Kernel port does with
// links. Each attachment has a slot, in whose path it is pinned, and that is all that is ever touched. Interfaces are those of the
// network namespace of this process. Must not know how programs are loaded, nor why. Fails with errors that name interface,
// control group, symbol or hook. All calls block for as long as the kernel takes, which is milliseconds.
import type { AttachPoint, ProgramType } from '../../capabilities/programs/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { attachText, KIND_OF_TYPE } from '../../core/programs/attach-point.ts';
import { type AttachTask, doing, isGone, type PointOf } from './attach-task.ts';
import { type BpfFd, type LinkInfo, linkInfo, programById, updateLink } from './bpf-syscall.ts';
import { createCgroupLink, isCgroupLinkAt } from './cgroup-link.ts';
import { attachFilter, type FilterPlace, filterHandle } from './clsact-filter.ts';
import { interfaceIndex } from './interface-index.ts';
import { LinkSlot, type SlotContent } from './link-slot.ts';
import { createKprobeLink, createPerfLinks, createTracepointLink, createUprobeLink } from './perf-event.ts';
import { createTcxLink, isTcxLinkAt } from './tcx-link.ts';
import { createRawTracepointLink, createTargetLink } from './trace-link.ts';
import { hasTcx } from './type-probes.ts';
import { createXdpLink, isInTheWay, isXdpLinkAt, xdpModeOf } from './xdp-link.ts';

/** What is attached in a slot. */
export interface Attachment {
  readonly slot: string;
  /** 0 for a filter; of several links the first. */
  readonly linkId: number;
  readonly programId: number;
  /** True if nothing runs any more: its interface or control group is gone, or somebody took the filter away. */
  readonly gone: boolean;
}

/** How to attach. */
export interface AttachmentOptions {
  /** Filters on clsact even where the kernel has TCX. For tests of what older kernels get. */
  readonly withoutTcx?: boolean;
}

const ATOMIC: ReadonlySet<ProgramType> = new Set(['xdp', 'tc', 'cgroup_skb', 'cgroup_sock', 'cgroup_sock_addr']);

/** True if a next function takes over a place from one event to the next. */
export function isAtomic(type: ProgramType): boolean {
  return ATOMIC.has(type);
}

/** Attachments by the paths of their slots. */
export class Attachments {
  readonly #withoutTcx: boolean;

  constructor(options: AttachmentOptions = {}) {
    this.#withoutTcx = options.withoutTcx ?? false;
  }

  /** All in a folder of slots, in the order of their names. */
  list(folder: string): readonly Attachment[] {
    return LinkSlot.all(folder).flatMap((slot) => this.#look(slot) ?? []);
  }

  /** Attaches. What the slot has is made to run this function, at its own place if it is another, and ended if it can't be. */
  attach(path: string, task: AttachTask): Attachment {
    checkKind(task);
    const slot = new LinkSlot(path);
    slot.repair();
    using there = heldContent(slot);
    const isThere = this.#takeOver(there.content, task) || this.#takeOverFilter(slot, there.content, task);
    if (!isThere) this.#create(slot, there.content, task);
    return this.#attached(slot, task);
  }

  /** Has the slot run this function from one event to the next. */
  replace(path: string, task: AttachTask): Attachment {
    checkKind(task);
    if (!isAtomic(task.type)) {
      const mend = 'attach the new one, then detach the old one';
      throw new LonglineError(
        'unsupported',
        `links of type ${task.type} can't be made to run another function: ${mend}`,
      );
    }
    const slot = new LinkSlot(path);
    slot.repair();
    const now = this.#look(slot);
    const text = attachText(task.point);
    if (now === undefined) throw new LonglineError('not_found', `nothing is attached in slot ${slot.name} for ${text}`);
    if (now.gone) throw new LonglineError('not_found', `what slot ${slot.name} was attached to, ${text}, is gone`);
    using there = heldContent(slot);
    if (!this.#takeOver(there.content, task) && !this.#takeOverFilter(slot, there.content, task)) {
      throw new LonglineError('wrong_state', `slot ${slot.name} is attached elsewhere, and not to ${text}`);
    }
    return this.#attached(slot, task);
  }

  /** Nothing happens if nothing is there. */
  detach(path: string): void {
    const slot = new LinkSlot(path);
    slot.repair();
    slot.end();
  }

  #hasTcx(): boolean {
    return !this.#withoutTcx && hasTcx();
  }

  /** True if a link that is there runs the function now. */
  #takeOver(content: SlotContent, task: AttachTask): boolean {
    const [link, ...more] = content.kind === 'links' ? content.links : [];
    if (link === undefined || more.length > 0 || !isAtomic(task.type)) return false;
    const info = linkInfo(link.fd);
    if (isGone(info) || !isAt(info, task)) return false;
    if (info.programId !== task.function.id) {
      updateLink(doing(task, attachText(task.point)), link.fd, task.function.fd);
    }
    return true;
  }

  /** True if a filter that is there runs the function now. Others may have put one there when ours was gone. */
  #takeOverFilter(slot: LinkSlot, content: SlotContent, task: AttachTask): boolean {
    if (content.kind !== 'filter' || !isTask(task, 'tc')) return false;
    const place = filterPlace(slot, task);
    const { place: former, runs } = content.filter;
    if (!isSamePlace(former, place)) return false;
    const { fd } = task.function;
    const trying = doing(task, attachText(task.point));
    slot.renewFilter(place, fd, () => attachFilter(trying, place, fd, runs));
    return true;
  }

  #create(slot: LinkSlot, content: SlotContent, task: AttachTask): void {
    if (!isTask(task, 'tc') || this.#hasTcx()) {
      create(slot, content, task);
      return;
    }
    const place = filterPlace(slot, task);
    const { fd } = task.function;
    slot.putFilter(place, fd, () => attachFilter(doing(task, attachText(task.point)), place, fd, false));
  }

  #attached(slot: LinkSlot, task: AttachTask): Attachment {
    const found = this.#look(slot);
    if (found !== undefined) return found;
    throw new LonglineError('internal', `${attachText(task.point)} was attached, and its pin is gone`);
  }

  #look(slot: LinkSlot): Attachment | undefined {
    using there = heldContent(slot);
    const { content } = there;
    if (content.kind === 'filter') {
      const { programId, runs } = content.filter;
      return { slot: slot.name, linkId: 0, programId, gone: !runs };
    }
    const [link] = content.kind === 'links' ? content.links : [];
    if (link === undefined) return undefined;
    const info = linkInfo(link.fd);
    return { slot: slot.name, linkId: info.id, programId: info.programId, gone: isGone(info) };
  }
}

function checkKind({ function: { name }, point, type }: AttachTask): void {
  if (KIND_OF_TYPE[type] === point.kind) return;
  throw new LonglineError('invalid', `${name} is of type ${type}, which isn't for ${attachText(point)}`);
}

function isTask<K extends AttachPoint['kind']>(task: AttachTask, ...kinds: K[]): task is AttachTask<PointOf<K>> {
  return kinds.some((kind) => kind === task.point.kind);
}

function isAt(info: LinkInfo, task: AttachTask): boolean {
  if (isTask(task, 'xdp')) return isXdpLinkAt(info, task);
  if (isTask(task, 'tc')) return isTcxLinkAt(info, task);
  return isTask(task, 'cgroup') && isCgroupLinkAt(info, task);
}

/** Attaches anew. Both run for as long as it takes to end what was there, unless there can be only one. */
function create(slot: LinkSlot, content: SlotContent, task: AttachTask): void {
  const [former] = content.kind === 'links' ? content.links : [];
  if (former !== undefined && isTask(task, 'xdp')) {
    const info = linkInfo(former.fd);
    if (isInTheWay(info, task)) {
      exchangeXdp(slot, info, task);
      return;
    }
  }
  const links = createLinks(task);
  try {
    slot.putLinks(links, !isTask(task, 'perf'));
  } finally {
    for (const link of links) link[Symbol.dispose]();
  }
}

/** An interface has one mode at a time, so that the former function has to go first. It comes back if the next can't. */
function exchangeXdp(slot: LinkSlot, info: LinkInfo, task: AttachTask<PointOf<'xdp'>>): void {
  const mode = xdpModeOf(info);
  using former = programById(info.programId);
  slot.end();
  try {
    using link = createXdpLink(task);
    slot.putLinks([link], true);
  } catch (error) {
    if (former === undefined) throw error;
    const back = { ...task.function, fd: former.fd, id: info.programId };
    using link = createXdpLink({ ...task, function: back, point: { ...task.point, mode } });
    slot.putLinks([link], true);
    throw error;
  }
}

function createLinks(task: AttachTask): readonly BpfFd[] {
  if (isTask(task, 'xdp')) return [createXdpLink(task)];
  if (isTask(task, 'tc')) return [createTcxLink(task)];
  if (isTask(task, 'cgroup')) return [createCgroupLink(task)];
  if (isTask(task, 'tracepoint')) return [createTracepointLink(task)];
  if (isTask(task, 'raw_tracepoint')) return [createRawTracepointLink(task)];
  if (isTask(task, 'perf')) return createPerfLinks(task);
  if (isTask(task, 'uprobe')) return [createUprobeLink(task)];
  if (isTask(task, 'kprobe')) return [createKprobeLink(task)];
  if (isTask(task, 'fentry', 'fexit', 'lsm')) return [createTargetLink(task)];
  throw new LonglineError('internal', `nothing is known of places of kind ${task.point.kind}`);
}

function filterPlace(slot: LinkSlot, { point }: AttachTask<PointOf<'tc'>>): FilterPlace {
  return { index: interfaceIndex(point.interface), direction: point.direction, handle: filterHandle(slot.path) };
}

function isSamePlace(one: FilterPlace, other: FilterPlace): boolean {
  return one.index === other.index && one.direction === other.direction && one.handle === other.handle;
}

/** What a slot has, until it is disposed. */
function heldContent(slot: LinkSlot): { readonly content: SlotContent } & Disposable {
  const content = slot.open();
  const links = content.kind === 'links' ? content.links : [];
  return {
    content,
    [Symbol.dispose]: () => {
      for (const link of links) link[Symbol.dispose]();
    },
  };
}
