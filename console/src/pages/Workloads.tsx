// Workloads, and of one workload its identity, its ports and its traffic.

import { Card, CardBody, CardTitle, DescriptionList, Gallery, Stack, StackItem } from '@patternfly/react-core';
import { connections, share, span } from '../api/amounts';
import { useAsked } from '../api/live';
import type { Certificates, Mesh, Plaintext, Traffic, Workload, WorkloadPort } from '../api/types';
import { EdgeTable } from '../parts/edges';
import { Item } from '../parts/item';
import { ModeMark, To } from '../parts/marks';
import { PlaintextCallers } from '../parts/plaintext';
import { Await, Nothing } from '../parts/states';
import { DataTable, type Column } from '../parts/table';
import type { Route } from '../route';
import { text } from '../text';

function IdentityCard({ workload }: { workload: Workload }) {
  const certificates = useAsked<Certificates>('certificates');
  const leaf = certificates.data?.certificates.find((one) => one.kind === 'workload' && one.workloads.includes(workload.workload));
  return (
    <Card isCompact>
      <CardTitle component="h2">Identity</CardTitle>
      <CardBody>
        <DescriptionList isCompact>
          <Item name="SPIFFE id">
            <span className="mutua-mono">{workload.identity ?? 'none is issued'}</span>
          </Item>
          <Item name="Service account">{workload.serviceAccount}</Item>
          <Item name="Addresses">{workload.addresses.join(', ') || '–'}</Item>
          <Item name="Sidecar">{workload.sidecar ? 'yes' : 'no'}</Item>
          <Item name="Certificate">
            {leaf ? `serial ${leaf.serial}, ends in ${span(leaf.remainingSeconds)}` : 'none is shown yet'}
          </Item>
          {leaf?.forecast && <Item name="Forecast">{leaf.forecast}</Item>}
        </DescriptionList>
      </CardBody>
    </Card>
  );
}

function PortsCard({ workload, window }: { workload: Workload; window: Route['window'] }) {
  const columns: Column<WorkloadPort>[] = [
    { name: 'Port', cell: (port) => port.port, value: (port) => port.port },
    { name: text.policySays, cell: (port) => <ModeMark mode={port.mode} by={port.decidedBy} />, value: (port) => port.mode },
    { name: text.decidedBy, cell: (port) => (port.decidedBy === 'default' ? text.byDefault : port.decidedBy) },
    {
      name: 'Service',
      cell: (port) => (port.service ? <To page="services" about={port.service} window={window} /> : '–'),
      value: (port) => port.service ?? '',
    },
  ];
  return (
    <Card isCompact>
      <CardTitle component="h2">Ports</CardTitle>
      <CardBody>
        <p>
          Every other port: <ModeMark mode={workload.mode} by={workload.decidedBy} />
        </p>
        <DataTable
          caption={`Ports of ${workload.workload}`}
          columns={columns}
          rows={workload.ports}
          rowKey={(port) => String(port.port)}
          empty={<Nothing title="No port is declared." />}
        />
      </CardBody>
    </Card>
  );
}

function One({ workload, route: { window } }: { workload: Workload; route: Route }) {
  const traffic = useAsked<Traffic>(`traffic?window=${window}`, true);
  const plaintext = useAsked<Plaintext>(`plaintext?window=${window}`, true);
  const name = workload.workload;
  return (
    <Stack hasGutter>
      <StackItem>
        <Gallery hasGutter minWidths={{ default: '30rem' }}>
          <IdentityCard workload={workload} />
          {workload.sidecar && <PortsCard workload={workload} window={window} />}
        </Gallery>
      </StackItem>
      <StackItem>
        <Await asked={traffic}>
          {(data) => (
            <EdgeTable
              edges={data.edges.filter((edge) => edge.from === name || edge.to === name)}
              window={window}
              caption={`${text.wireShows}: traffic of ${name}`}
            />
          )}
        </Await>
      </StackItem>
      <StackItem>
        <Await asked={plaintext}>
          {(data) => <PlaintextCallers callers={data.callers.filter((one) => one.workload === name)} window={window} />}
        </Await>
      </StackItem>
    </Stack>
  );
}

function All({ mesh, route: { window } }: { mesh: Mesh; route: Route }) {
  const traffic = useAsked<Traffic>(`traffic?window=${window}`, true);
  const observed = (name: string) => {
    const { mtls, total } = connections((traffic.data?.edges ?? []).filter((edge) => edge.to === name));
    return total === 0 ? 'no traffic' : `${share(mtls, total)} of ${total}`;
  };
  const others = (row: Workload) => row.ports.filter((port) => port.mode !== row.mode).map((port) => `${port.port}: ${port.mode}`);
  const columns: Column<Workload>[] = [
    { name: 'Workload', cell: (row) => <To page="workloads" about={row.workload} window={window} />, value: (row) => row.workload },
    {
      name: text.policySays,
      cell: (row) => (row.sidecar ? <ModeMark mode={row.mode} by={row.decidedBy} /> : 'No sidecar'),
      value: (row) => (row.sidecar ? row.mode : 'No sidecar'),
    },
    { name: 'Ports otherwise', cell: (row) => (row.sidecar && others(row).join(', ')) || '–' },
    { name: `${text.wireShows} (received)`, cell: (row) => <span className="mutua-number">{observed(row.workload)}</span> },
    {
      name: 'Identity',
      cell: (row) => <span className="mutua-mono">{row.identity ?? '–'}</span>,
      value: (row) => row.identity ?? '',
    },
  ];
  return (
    <DataTable
      caption="Workloads"
      columns={columns}
      rows={mesh.workloads}
      rowKey={(row) => row.workload}
      empty={<Nothing title={text.nothing.workloads} />}
    />
  );
}

export function Workloads({ route }: { route: Route }) {
  const mesh = useAsked<Mesh>('mesh');
  return (
    <Await asked={mesh}>
      {(data) => {
        if (route.about === null) return <All mesh={data} route={route} />;
        const workload = data.workloads.find((one) => one.workload === route.about);
        return workload ? <One workload={workload} route={route} /> : <Nothing title={text.nothing.found(`workload ${route.about}`)} />;
      }}
    </Await>
  );
}
