// Services, and of one service the Network card: its ports with locks, and who calls it.

import { Card, CardBody, CardTitle, Label, LabelGroup, Stack, StackItem } from '@patternfly/react-core';
import { useAsked } from '../api/live';
import type { Mesh, PortLock, Service, Traffic } from '../api/types';
import { EdgeTable } from '../parts/edges';
import { LockMark, To } from '../parts/marks';
import { Await, Nothing } from '../parts/states';
import { DataTable, type Column } from '../parts/table';
import type { Route } from '../route';
import { locks, text } from '../text';

function NetworkCard({ service }: { service: Service }) {
  const columns: Column<PortLock>[] = [
    { name: 'Port', cell: (port) => port.port, value: (port) => port.port },
    { name: 'Name', cell: (port) => port.name || '–', value: (port) => port.name },
    { name: text.policySays, cell: (port) => <LockMark port={port} />, value: (port) => locks[port.lock].word },
    { name: text.decidedBy, cell: (port) => port.decidedBy.map((by) => (by === 'default' ? text.byDefault : by)).join(', ') || '–' },
    { name: 'Target ports', cell: (port) => port.targetPorts.join(', ') || '–' },
    {
      name: 'Endpoints',
      cell: (port) => (port.withoutSidecar > 0 ? `${port.endpoints}, ${port.withoutSidecar} without sidecar` : port.endpoints),
      value: (port) => port.endpoints,
    },
  ];
  return (
    <Card>
      <CardTitle component="h2">Network</CardTitle>
      <CardBody>
        <DataTable
          caption={`Ports of ${service.host}`}
          columns={columns}
          rows={service.ports}
          rowKey={(port) => `${port.port} ${port.name}`}
          empty={<Nothing title="It declares no port." />}
        />
      </CardBody>
    </Card>
  );
}

function One({ service, route }: { service: Service; route: Route }) {
  const traffic = useAsked<Traffic>(`traffic?window=${route.window}`, true);
  return (
    <Stack hasGutter>
      <StackItem>
        <NetworkCard service={service} />
      </StackItem>
      <StackItem>
        <Await asked={traffic}>
          {(data) => (
            <EdgeTable
              edges={data.edges.filter((edge) => edge.services.includes(service.host))}
              window={route.window}
              caption={`${text.wireShows}: clients of ${service.host}`}
            />
          )}
        </Await>
      </StackItem>
    </Stack>
  );
}

function Locks({ service }: { service: Service }) {
  return (
    <LabelGroup aria-label={`Ports of ${service.host}`} numLabels={8}>
      {service.ports.map((port) => (
        <span key={port.port}>
          <span className="mutua-number">{port.port}</span> <LockMark port={port} />
        </span>
      ))}
    </LabelGroup>
  );
}

function All({ mesh, route }: { mesh: Mesh; route: Route }) {
  const columns: Column<Service>[] = [
    { name: 'Service', cell: (row) => <To page="services" about={row.host} window={route.window} />, value: (row) => row.host },
    { name: 'Namespace', cell: (row) => row.namespace, value: (row) => row.namespace },
    {
      name: text.policySays,
      cell: (row) => (row.external ? <Label>{text.outside}</Label> : <Locks service={row} />),
      value: (row) => (row.external ? text.outside : row.ports.map((port) => locks[port.lock].word).join(' ')),
    },
  ];
  return (
    <DataTable
      caption="Services with the locks of their ports"
      columns={columns}
      rows={mesh.services}
      rowKey={(row) => `${row.namespace}/${row.host}`}
      empty={<Nothing title={text.nothing.services} />}
    />
  );
}

export function Services({ route }: { route: Route }) {
  const mesh = useAsked<Mesh>('mesh');
  return (
    <Await asked={mesh}>
      {(data) => {
        if (route.about === null) return <All mesh={data} route={route} />;
        const service = data.services.find((one) => one.host === route.about);
        return service ? <One service={service} route={route} /> : <Nothing title={text.nothing.found(`service ${route.about}`)} />;
      }}
    </Await>
  );
}
