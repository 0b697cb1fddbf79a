// Paging, the same for every listing.

/** A part of a listing. */
export interface PageQuery {
  /** Most records wanted, 1 to 1000. */
  readonly pageSize: number;
  /** Token of the part before; empty for the first. A token that isn't ours is refused as `invalid`. */
  readonly pageToken: string;
}

/** A part of a listing and how to get the next. */
export interface Page<T> {
  readonly items: readonly T[];
  /** Empty on the last part. */
  readonly nextPageToken: string;
}
