// Reading list calls to their end.

/** One page of any list call. */
export interface Page<T> {
  readonly items: readonly T[];
  /** Empty on the last. */
  readonly nextPageToken: string;
}

const LARGEST_PAGE = 1000;

/** Reads pages until `limit` items or the end; 0 reads all. Stops if a server gives the same page token twice. */
export async function readPages<T>(
  limit: number,
  read: (pageToken: string, pageSize: number) => Promise<Page<T>>,
): Promise<readonly T[]> {
  const items: T[] = [];
  let pageToken = '';
  do {
    const wanted = limit === 0 ? LARGEST_PAGE : Math.min(LARGEST_PAGE, limit - items.length);
    const page = await read(pageToken, wanted);
    items.push(...page.items);
    if (page.nextPageToken === pageToken) break;
    pageToken = page.nextPageToken;
  } while (pageToken !== '' && (limit === 0 || items.length < limit));
  return limit === 0 ? items : items.slice(0, limit);
}
