// Who calls without TLS: the list that stands before every switch to STRICT.

import { ago } from '../api/amounts';
import type { PlaintextCaller } from '../api/types';
import type { Window } from '../route';
import { text } from '../text';
import { To } from './marks';
import { Nothing } from './states';
import { DataTable, type Column } from './table';

function what(row: PlaintextCaller): string {
  if (row.callerKind !== 'workload') return row.callerKind === 'many' ? 'more than are told apart' : 'outside the mesh';
  return row.callerSidecar ? 'in the mesh, with a sidecar' : 'in the mesh, without a sidecar';
}

export function PlaintextCallers({ callers, window }: { callers: PlaintextCaller[]; window: Window }) {
  const columns: Column<PlaintextCaller>[] = [
    {
      name: 'Caller',
      cell: (row) => (row.callerKind === 'workload' ? <To page="workloads" about={row.caller} window={window} /> : row.caller),
      value: (row) => row.caller,
    },
    { name: 'What it is', cell: what, value: what },
    { name: 'Called', cell: (row) => <To page="workloads" about={row.workload} window={window} />, value: (row) => row.workload },
    { name: 'Port', cell: (row) => row.port, value: (row) => row.port },
    { name: 'Served', cell: (row) => row.connections, value: (row) => row.connections },
    { name: 'Requests', cell: (row) => row.requests, value: (row) => row.requests },
    { name: 'Refused', cell: (row) => row.refused, value: (row) => row.refused },
    { name: 'First seen', cell: (row) => ago(row.firstSeen), value: (row) => row.firstSeen },
    { name: 'Last seen', cell: (row) => ago(row.lastSeen), value: (row) => row.lastSeen },
  ];
  return (
    <DataTable
      caption="Callers without TLS"
      columns={columns}
      rows={callers}
      rowKey={(row) => `${row.caller} ${row.workload} ${row.port}`}
      empty={<Nothing title={text.nothing.plaintext} />}
    />
  );
}
