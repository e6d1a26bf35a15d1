import { Label, Stack, StackItem } from '@patternfly/react-core';
import { ago } from '../api/amounts';
import { useAsked } from '../api/live';
import type { Proxies as All, Proxy, Rollout } from '../api/types';
import { Await, Nothing } from '../parts/states';
import { DataTable, type Column } from '../parts/table';
import { phases, text } from '../text';

function Sync({ proxy }: { proxy: Proxy }) {
  if (!proxy.connected) return <Label color="grey">{proxy.since ? `away since ${ago(proxy.since)}` : 'never seen'}</Label>;
  if (proxy.refused.length > 0) return <Label color="red">refuses {proxy.refused.map((one) => one.type).join(', ')}</Label>;
  return proxy.current ? <Label color="green">in sync</Label> : <Label color="orange">behind</Label>;
}

function refusals(proxy: Proxy): string {
  return proxy.recentRefusals.map((one) => `${one.code} × ${one.count} ${one.direction} ${one.peerIdentity || one.peerAddress}`).join('; ');
}

const proxyColumns: Column<Proxy>[] = [
  { name: 'Workload', cell: (row) => row.workload, value: (row) => row.workload },
  {
    name: 'State',
    cell: (row) => <Sync proxy={row} />,
    value: (row) => (row.refused.length > 0 ? 0 : !row.connected ? 1 : row.current ? 3 : 2),
  },
  { name: 'Acknowledged', cell: (row) => `${row.acknowledged} of ${row.sent}`, value: (row) => row.acknowledged },
  { name: 'Open connections', cell: (row) => row.openConnections ?? '–', value: (row) => row.openConnections ?? -1 },
  { name: 'Drained by force', cell: (row) => row.drainedByForce ?? '–', value: (row) => row.drainedByForce ?? -1 },
  { name: 'Version', cell: (row) => row.version || '–', value: (row) => row.version },
  { name: 'Recent refusals', cell: (row) => refusals(row) || row.refused.map((one) => one.error).join('; ') || '–', value: refusals },
];

function standing(rollout: Rollout): string {
  if (rollout.aborted) return 'taken back';
  if (rollout.enforced) return `enforced ${ago(rollout.enforced)}`;
  return rollout.overtaken ? 'overtaken by a newer change' : phases[rollout.phase];
}

const rolloutColumns: Column<Rollout>[] = [
  { name: 'Generation', cell: (row) => row.generation, value: (row) => row.generation },
  { name: 'Began', cell: (row) => ago(row.began), value: (row) => row.began },
  { name: 'Stands', cell: standing, value: standing },
  { name: 'Waits for', cell: (row) => row.waitingFor.join(', ') || '–', value: (row) => row.waitingFor.length },
  {
    name: 'Left behind',
    cell: (row) => row.leftBehind.map((one) => `${one.workload} (${phases[one.phase]})`).join(', ') || '–',
    value: (row) => row.leftBehind.length,
  },
];

export function Proxies() {
  const proxies = useAsked<All>('proxies');
  const rollouts = useAsked<Rollout[]>('rollouts');
  return (
    <Stack hasGutter>
      <StackItem>
        <Await asked={rollouts}>
          {(data) => (
            <DataTable
              caption="Changes of configuration, newest first"
              columns={rolloutColumns}
              rows={data}
              rowKey={(row) => String(row.generation)}
              empty={<Nothing title={text.nothing.rollouts} />}
            />
          )}
        </Await>
      </StackItem>
      <StackItem>
        <Await asked={proxies}>
          {(data) => (
            <DataTable
              caption="Sidecars"
              columns={proxyColumns}
              rows={data.proxies}
              rowKey={(row) => row.workload}
              empty={<Nothing title={text.nothing.proxies} />}
            />
          )}
        </Await>
      </StackItem>
    </Stack>
  );
}
