// A time span that ends early with its parent. Leaves no timer and no listener behind once it has ended.

/** Aborts after `ms`, or with the parent. The timer alone keeps no process alive. */
export function lastingSignal(ms: number, parent: AbortSignal): AbortSignal {
  const controller = new AbortController();
  const end = () => {
    clearTimeout(timer);
    parent.removeEventListener('abort', end);
    controller.abort();
  };
  const timer = setTimeout(end, ms).unref();
  if (parent.aborted) end();
  else parent.addEventListener('abort', end, { once: true });
  return controller.signal;
}
