import { Label } from '@patternfly/react-core';
import { ago, span } from '../api/amounts';
import { useAsked } from '../api/live';
import type { Certificate, Certificates as All } from '../api/types';
import { Await, Nothing } from '../parts/states';
import { DataTable, type Column } from '../parts/table';

const DAY = 86_400;

function Life({ certificate }: { certificate: Certificate }) {
  const { remainingSeconds: left, kind } = certificate;
  // Leaves live for a day and are renewed at half of it; a plugged-in CA is renewed by people.
  const soon = kind === 'root' || kind === 'issuer' ? 30 * DAY : 3_600;
  if (left < 0) return <Label color="red">ended {ago(certificate.notAfter)}</Label>;
  return <Label color={left < soon ? 'orange' : 'green'}>{span(left)}</Label>;
}

const columns: Column<Certificate>[] = [
  { name: 'Kind', cell: (row) => row.kind, value: (row) => row.kind },
  { name: 'Owner', cell: (row) => <span className="mutua-mono">{row.owner}</span>, value: (row) => row.owner },
  { name: 'Ends in', cell: (row) => <Life certificate={row} />, value: (row) => row.remainingSeconds },
  { name: 'Renewal due', cell: (row) => row.renewAt ?? '–', value: (row) => row.renewAt ?? '' },
  { name: 'Last attempt', cell: (row) => row.lastAttempt ?? '–', value: (row) => row.lastAttempt ?? '' },
  { name: 'Clock', cell: (row) => (row.clockSkewMs === null ? '–' : `${row.clockSkewMs} ms`), value: (row) => row.clockSkewMs ?? 0 },
  { name: 'Serial', cell: (row) => <span className="mutua-mono">{row.serial || '–'}</span>, value: (row) => row.serial },
  { name: 'Issuer', cell: (row) => <span className="mutua-mono">{row.issuer || '–'}</span>, value: (row) => row.issuer },
  { name: 'Forecast', cell: (row) => row.forecast ?? row.lastRenewalError ?? '–', value: (row) => row.forecast ?? '' },
];

export function Certificates() {
  const asked = useAsked<All>('certificates');
  return (
    <Await asked={asked}>
      {(data) => (
        <DataTable
          caption="Certificates and join tokens, by what ends first"
          columns={columns}
          rows={[...data.certificates].sort((a, b) => a.remainingSeconds - b.remainingSeconds)}
          rowKey={(row) => `${row.kind} ${row.owner} ${row.serial} ${row.notAfter}`}
          empty={<Nothing title="None is known." />}
        />
      )}
    </Await>
  );
}
