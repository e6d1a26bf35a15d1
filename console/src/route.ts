// Where the reader is: the page, what it is about, and the time range, all in the address.

import { useEffect, useState } from 'react';

export const WINDOWS = ['1m', '5m', '10m', '30m', '1h', '3h', '6h', '12h', '1d', '7d', '30d'] as const;
export type Window = (typeof WINDOWS)[number];
const DEFAULT_WINDOW: Window = '10m';

export interface Route {
  /** The page: `services`. */
  page: string;
  /** What it is about, if it is about one thing: `httpbin.bar.svc.cluster.local`. */
  about: string | null;
  window: Window;
  /** Further settings of the page. */
  query: URLSearchParams;
}

export function parse(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#\/?/, '').split('?');
  const [page = '', ...rest] = path.split('/');
  const query = new URLSearchParams(search);
  const asked = query.get('window');
  const window = WINDOWS.find((one) => one === asked) ?? DEFAULT_WINDOW;
  return { page: page || 'overview', about: rest.length > 0 ? decodeURIComponent(rest.join('/')) : null, window, query };
}

export function href(page: string, about: string | null, window: Window, more: Record<string, string> = {}): string {
  const query = new URLSearchParams(more);
  if (window !== DEFAULT_WINDOW) query.set('window', window);
  const [path, search] = [about === null ? page : `${page}/${encodeURIComponent(about)}`, query.toString()];
  return `#/${path}${search ? `?${search}` : ''}`;
}

export function useRoute(): Route {
  const [route, setRoute] = useState(() => parse(location.hash));
  useEffect(() => {
    const moved = () => setRoute(parse(location.hash));
    addEventListener('hashchange', moved);
    return () => removeEventListener('hashchange', moved);
  }, []);
  return route;
}
