// Sums and shares, exact: what is not all is never shown as all.

import type { Amount, TrafficEdge } from './types';

/** Requests where some were seen, else connections: one kind of unit on both sides of a share. */
export function units(edge: TrafficEdge): { mtls: number; total: number; unit: 'requests' | 'connections' } {
  const all = [edge.mtls, edge.tls, edge.plaintext];
  const unit = all.some((amount) => amount.requests > 0) ? 'requests' : 'connections';
  const of = (amount: Amount) => amount[unit];
  return { mtls: of(edge.mtls), total: all.reduce((sum, amount) => sum + of(amount), 0), unit };
}

/** `part` of `whole` in percent with two decimals, cut and not rounded: 100 % is all, 0 % is none. */
export function share(part: number, whole: number): string {
  if (whole === 0) return '–';
  if (part === whole) return '100 %';
  if (part === 0) return '0 %';
  const hundredths = Math.floor((part / whole) * 10_000);
  if (hundredths === 0) return '< 0.01 %';
  return `${(hundredths / 100).toFixed(2)} %`;
}

/** All connections of some edges, by whether they were mutual TLS. */
export function connections(edges: TrafficEdge[]): { mtls: number; total: number } {
  const sum = (of: (edge: TrafficEdge) => number) => edges.reduce((total, edge) => total + of(edge), 0);
  return {
    mtls: sum((edge) => edge.mtls.connections),
    total: sum((edge) => edge.mtls.connections + edge.tls.connections + edge.plaintext.connections),
  };
}

/** How long ago, in its two largest units. */
export function ago(time: string, now = Date.now()): string {
  const seconds = Math.max(0, Math.floor((now - Date.parse(time)) / 1000));
  return `${span(seconds)} ago`;
}

/** A number of seconds in its two largest units. */
export function span(seconds: number): string {
  if (seconds < 0) return 'ended';
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3_600) % 24, Math.floor(seconds / 60) % 60];
  if (days > 0) return `${days}d ${hours}h`;
  if (hours > 0) return `${hours}h ${minutes}m`;
  if (minutes > 0) return `${minutes}m ${seconds % 60}s`;
  return `${seconds}s`;
}

/** Bytes as people read them. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let [value, at] = [count, 0];
  while (value >= 1000 && at < units.length - 1) [value, at] = [value / 1000, at + 1];
  return `${at === 0 ? value : value.toFixed(1)} ${units[at] ?? ''}`;
}
