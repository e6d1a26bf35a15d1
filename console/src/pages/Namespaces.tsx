import { connections, share } from '../api/amounts';
import { useAsked } from '../api/live';
import type { Mesh, Namespace, Traffic, TrafficEdge } from '../api/types';
import { ModeMark } from '../parts/marks';
import { Await, Nothing } from '../parts/states';
import { DataTable, type Column } from '../parts/table';
import { href, type Route } from '../route';
import { text } from '../text';

/** What workloads of a namespace received. */
function received(edges: TrafficEdge[], namespace: string): TrafficEdge[] {
  return edges.filter((edge) => edge.to.startsWith(`${namespace}/`));
}

export function Namespaces({ route: { window } }: { route: Route }) {
  const mesh = useAsked<Mesh>('mesh');
  const traffic = useAsked<Traffic>(`traffic?window=${window}`, true);
  const observed = (name: string) => {
    const { mtls, total } = connections(received(traffic.data?.edges ?? [], name));
    return total === 0 ? 'no traffic' : `${share(mtls, total)} of ${total}`;
  };
  const columns: Column<Namespace>[] = [
    { name: 'Namespace', cell: (row) => row.name, value: (row) => row.name },
    {
      name: text.policySays,
      cell: (row) =>
        row.withSidecar === 0 ? 'Not applicable' : <ModeMark mode={row.mode} by={row.decidedBy} inherited={row.inherited} />,
      value: (row) => (row.withSidecar === 0 ? 'Not applicable' : row.mode),
    },
    { name: text.wireShows, cell: (row) => <span className="mutua-number">{observed(row.name)}</span> },
    { name: 'With sidecar', cell: (row) => `${row.withSidecar} of ${row.workloads}`, value: (row) => row.withSidecar },
    { name: 'Otherwise', cell: (row) => row.overridden, value: (row) => row.overridden },
    {
      name: 'Findings',
      cell: (row) => (
        <a href={href('policies', null, window, { namespace: row.name })}>
          {row.errors} errors, {row.warnings} warnings
        </a>
      ),
      value: (row) => row.errors * 1000 + row.warnings,
    },
  ];
  return (
    <Await asked={mesh}>
      {(data) => (
        <DataTable
          caption="Namespaces: the mode that no selector changes, and how many workloads have another on some port"
          columns={columns}
          rows={data.namespaces}
          rowKey={(row) => row.name}
          empty={<Nothing title={text.nothing.workloads} />}
        />
      )}
    </Await>
  );
}
