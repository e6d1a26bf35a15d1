import { useAsked } from '../api/live';
import type { Finding, Mesh } from '../api/types';
import { SeverityMark } from '../parts/marks';
import { Await, Nothing } from '../parts/states';
import { DataTable, type Column } from '../parts/table';
import type { Route } from '../route';
import { text } from '../text';

const ORDER = { error: 0, warning: 1, info: 2 } as const;

const columns: Column<Finding>[] = [
  { name: 'Severity', cell: (row) => <SeverityMark severity={row.severity} />, value: (row) => ORDER[row.severity] },
  { name: 'Code', cell: (row) => row.code, value: (row) => row.code },
  { name: 'Object', cell: (row) => row.object, value: (row) => row.object },
  {
    name: 'Where',
    cell: (row) => (
      <>
        <span className="mutua-mono">{row.path || '–'}</span>
        {row.line > 0 && (
          <>
            <br />
            {row.file}:{row.line}
          </>
        )}
      </>
    ),
    value: (row) => `${row.file}:${row.line} ${row.path}`,
  },
  { name: 'What is wrong', cell: (row) => row.message, value: (row) => row.message },
  { name: 'What to do', cell: (row) => <pre className="mutua-fix">{row.fix}</pre> },
];

export function Policies({ route }: { route: Route }) {
  const mesh = useAsked<Mesh>('mesh');
  const namespace = route.query.get('namespace');
  const of = (row: Finding) => namespace === null || row.object.split(' ')[1]?.startsWith(`${namespace}/`);
  return (
    <Await asked={mesh}>
      {(data) => (
        <DataTable
          caption={namespace === null ? 'Findings, the same as of mutua analyze' : `Findings of namespace ${namespace}`}
          columns={columns}
          rows={data.findings.filter(of).sort((a, b) => ORDER[a.severity] - ORDER[b.severity])}
          rowKey={(row) => `${row.code} ${row.object} ${row.path} ${row.line}`}
          empty={<Nothing title={text.nothing.findings} />}
        />
      )}
    </Await>
  );
}
