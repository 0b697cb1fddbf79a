// One durable record of a capability, as JSON. A record that can't be read counts as none: what it knew of is then
// left as it is, since nobody can tell any more whose it was.
import type { StateStore } from './capability.ts';

/** Reads and writes one record. A write is on disk when its promise resolves. */
export interface StoredRecord<T> {
  read(): Promise<T>;
  write(record: T): Promise<void>;
}

/** The record under a key of the state store; `empty` as long as there is none. Writing `empty` deletes it. */
export function storedRecord<T extends object>(state: StateStore, key: string, empty: T): StoredRecord<T> {
  return {
    read: async () => {
      const bytes = await state.get(key);
      if (bytes === undefined) return empty;
      try {
        return { ...empty, ...(JSON.parse(Buffer.from(bytes).toString()) as Partial<T>) };
      } catch {
        return empty;
      }
    },
    write: async (record) => {
      const text = JSON.stringify(record);
      if (text === JSON.stringify(empty)) await state.delete(key);
      else await state.put(key, Buffer.from(text));
    },
  };
}
