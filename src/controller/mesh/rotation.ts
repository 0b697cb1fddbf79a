// A host's key is replaced without loss: its peers learn the new key first, without prefixes; then the host takes it; then
// its prefixes move to the new key, and last the old one is removed. Each step begins when all have done the one before.
// Between taking and moving no peer answers the new key, so that the host holds back what it sends, about 128 packets a peer.
// Pure and made of plain data, so that whoever drives it can store it at every step and go on, or back, after a crash.

/** The steps in order; going back takes them in reverse. */
export type RotationStep = 'stage' | 'switch' | 'move' | 'remove';

/** A rotation as it stands. */
export interface Rotation {
  /** The host whose key changes. */
  readonly host: string;
  readonly oldKey: string;
  readonly newKey: string;
  /** Hosts that have it as a peer. */
  readonly peers: readonly string[];
  readonly direction: 'forward' | 'back';
  /** What is being done, or undone; `done` at the end of either way. */
  readonly step: RotationStep | 'done';
  /** Who has yet to say that it did. */
  readonly waitingFor: readonly string[];
}

/** What one of the host's keys is to have at its peers. */
export interface HostKey {
  readonly publicKey: string;
  readonly hasPrefixes: boolean;
}

const STEPS: readonly RotationStep[] = ['stage', 'switch', 'move', 'remove'];

/** Begins one. The keys must differ. */
export function beginRotation(host: string, oldKey: string, newKey: string, peers: readonly string[]): Rotation {
  if (oldKey === newKey) throw new RangeError('the new key is the old one; a rotation needs another');
  return enter({ host, oldKey, newKey, peers: [...new Set(peers)], direction: 'forward' }, 'stage');
}

/** Notes that a host did what `step` asks of it. Late and repeated notes change nothing. */
export function acknowledge(rotation: Rotation, step: RotationStep, member: string): Rotation {
  if (rotation.step !== step || !rotation.waitingFor.includes(member)) return rotation;
  const waitingFor = rotation.waitingFor.filter((one) => one !== member);
  return waitingFor.length > 0 ? { ...rotation, waitingFor } : enter(rotation, following(step, rotation.direction));
}

/** A host that is gone for good is no longer waited for. */
export function dropPeer(rotation: Rotation, peer: string): Rotation {
  const without = { ...rotation, peers: rotation.peers.filter((one) => one !== peer) };
  return rotation.step === 'done' ? without : acknowledge(without, rotation.step, peer);
}

/** A host that has it as a peer since: told of it as the step stands, and waited for from here on. */
export function addPeer(rotation: Rotation, peer: string): Rotation {
  if (rotation.step === 'done' || rotation.peers.includes(peer)) return rotation;
  const waitingFor = rotation.step === 'switch' ? rotation.waitingFor : [...rotation.waitingFor, peer];
  return { ...rotation, peers: [...rotation.peers, peer], waitingFor };
}

/**
 * Turns back: what the current step did so far is undone, then what was done before it. Undefined once the old key is being
 * removed, since from there on some peers only know the new one: then a rotation has to be finished.
 */
export function undoRotation(rotation: Rotation): Rotation | undefined {
  if (rotation.direction === 'back') return rotation;
  if (rotation.step === 'remove' || rotation.step === 'done') return undefined;
  return enter({ ...rotation, direction: 'back' }, rotation.step);
}

/** The key that the host itself is to have. */
export function hostKey(rotation: Rotation): string {
  return reached(rotation, 'switch') ? rotation.newKey : rotation.oldKey;
}

/** What a peer is to have for the host now. It is whole, so that a peer which missed steps is right after it all the same. */
export function keysAtPeers(rotation: Rotation): readonly HostKey[] {
  const moved = reached(rotation, 'move');
  const keys: HostKey[] = [];
  if (!reached(rotation, 'remove')) keys.push({ publicKey: rotation.oldKey, hasPrefixes: !moved });
  if (reached(rotation, 'stage')) keys.push({ publicKey: rotation.newKey, hasPrefixes: moved });
  return keys;
}

/** True if what `step` does is wanted at present. */
function reached({ direction, step }: Rotation, asked: RotationStep): boolean {
  if (step === 'done') return direction === 'forward';
  const [at, place] = [STEPS.indexOf(step), STEPS.indexOf(asked)];
  return direction === 'forward' ? place <= at : place < at;
}

function following(step: RotationStep, direction: Rotation['direction']): Rotation['step'] {
  return STEPS[STEPS.indexOf(step) + (direction === 'forward' ? 1 : -1)] ?? 'done';
}

function enter(rotation: Omit<Rotation, 'step' | 'waitingFor'>, step: Rotation['step']): Rotation {
  const waitingFor = step === 'done' ? [] : step === 'switch' ? [rotation.host] : rotation.peers;
  // Without anybody to wait for, a step is over as it begins.
  if (step !== 'done' && waitingFor.length === 0) return enter(rotation, following(step, rotation.direction));
  return { ...rotation, step, waitingFor };
}
