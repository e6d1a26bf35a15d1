// Edges as a table: the twin of the graph, and the traffic of one workload or service.

import { share, ago, bytes, units } from '../api/amounts';
import type { TrafficEdge } from '../api/types';
import { href, type Window } from '../route';
import { text } from '../text';
import { StateMark } from './marks';
import { Nothing } from './states';
import { DataTable, type Column } from './table';

/** What an edge is, in one sentence. */
export function sentence(edge: TrafficEdge): string {
  const { mtls, total, unit } = units(edge);
  const failed = edge.failures.reduce((sum, failure) => sum + failure.count, 0);
  const served = total === 0 ? 'Nothing was served.' : `${mtls} of ${total} ${unit} were mutual TLS (${share(mtls, total)}).`;
  const open = edge.open > 0 ? ` ${edge.open} connections are open.` : '';
  const refused = failed > 0 ? ` ${failed} connections were refused or cut.` : '';
  return `${served}${open}${refused}${edge.disagreement ? ` The ends disagree: ${edge.disagreement}.` : ''}`;
}

function failures(edge: TrafficEdge): string {
  return edge.failures.map((failure) => `${failure.code} × ${failure.count} (${failure.reporter})`).join(', ');
}

function protections(edge: TrafficEdge): string {
  return edge.protections.map((one) => `${one.tlsVersion} ${one.cipher} ${one.group}`).join(', ');
}

export function EdgeTable({ edges, window, caption }: { edges: TrafficEdge[]; window: Window; caption: string }) {
  const end = (id: string) => (id.includes('/') ? <a href={href('workloads', id, window)}>{id}</a> : id);
  const mutual = (edge: TrafficEdge) => {
    const { mtls, total } = units(edge);
    return share(mtls, total);
  };
  const columns: Column<TrafficEdge>[] = [
    { name: 'From', cell: (edge) => end(edge.from), value: (edge) => edge.from },
    { name: 'To', cell: (edge) => end(edge.to), value: (edge) => edge.to },
    { name: 'Services', cell: (edge) => edge.services.join(', ') || '–', value: (edge) => edge.services.join(' ') },
    { name: 'State', cell: (edge) => <StateMark state={edge.state} why={sentence(edge)} />, value: (edge) => edge.state },
    { name: 'mTLS', cell: (edge) => <span className="mutua-number">{mutual(edge)}</span> },
    {
      name: 'Connections',
      cell: (edge) => edge.mtls.connections + edge.tls.connections + edge.plaintext.connections,
      value: (edge) => edge.mtls.connections + edge.tls.connections + edge.plaintext.connections,
    },
    {
      name: 'Requests',
      cell: (edge) => edge.mtls.requests + edge.tls.requests + edge.plaintext.requests,
      value: (edge) => edge.mtls.requests + edge.tls.requests + edge.plaintext.requests,
    },
    {
      name: 'Bytes',
      cell: (edge) => (
        <span className="mutua-number">
          {bytes([edge.mtls, edge.tls, edge.plaintext].reduce((sum, one) => sum + one.receivedBytes + one.sentBytes, 0))}
        </span>
      ),
    },
    { name: 'TLS', cell: (edge) => <span className="mutua-mono">{protections(edge) || '–'}</span>, value: protections },
    { name: 'Refused or cut', cell: (edge) => failures(edge) || '–', value: failures },
    { name: 'Last seen', cell: (edge) => ago(edge.lastSeen), value: (edge) => edge.lastSeen },
  ];
  return (
    <DataTable
      caption={caption}
      columns={columns}
      rows={edges}
      rowKey={(edge) => `${edge.from} ${edge.to}`}
      empty={<Nothing title={text.nothing.traffic} hint={text.nothing.traffic_hint} />}
    />
  );
}
