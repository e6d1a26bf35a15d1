// A table with a caption, a filter and sortable columns.

import { SearchInput, Toolbar, ToolbarContent, ToolbarItem } from '@patternfly/react-core';
import { Caption, Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { useState, type ReactNode } from 'react';

export interface Column<T> {
  name: string;
  cell: (row: T) => ReactNode;
  /** What it is sorted and searched by; a column without is neither. */
  value?: (row: T) => string | number;
}

interface Props<T> {
  caption: string;
  columns: Column<T>[];
  rows: T[];
  rowKey: (row: T) => string;
  /** What stands instead of no rows. */
  empty: ReactNode;
}

/** More rows than this are not drawn; the filter finds them. */
const MOST = 500;

function compare(a: string | number, b: string | number): number {
  return typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b));
}

export function DataTable<T>({ caption, columns, rows, rowKey, empty }: Props<T>) {
  const [wanted, setWanted] = useState('');
  const [sort, setSort] = useState<{ index: number; direction: 'asc' | 'desc' } | null>(null);
  const needle = wanted.trim().toLowerCase();
  const holds = (row: T) => columns.some((column) => column.value && String(column.value(row)).toLowerCase().includes(needle));
  let shown = needle ? rows.filter(holds) : rows;
  const by = sort && columns[sort.index]?.value;
  if (by) {
    shown = [...shown].sort((a, b) => compare(by(a), by(b)) * (sort.direction === 'asc' ? 1 : -1));
  }
  const more = shown.length - MOST;
  if (rows.length === 0) return <>{empty}</>;
  return (
    <>
      {rows.length > 10 && (
        <Toolbar>
          <ToolbarContent>
            <ToolbarItem>
              <SearchInput
                aria-label={`Filter: ${caption}`}
                placeholder="Filter"
                value={wanted}
                onChange={(_, value) => setWanted(value)}
                onClear={() => setWanted('')}
                resultsCount={needle ? shown.length : undefined}
              />
            </ToolbarItem>
          </ToolbarContent>
        </Toolbar>
      )}
      <Table aria-label={caption} variant="compact">
        <Caption>{more > 0 ? `${caption}: the first ${MOST} of ${shown.length}` : caption}</Caption>
        <Thead>
          <Tr>
            {columns.map((column, index) => (
              <Th
                key={column.name}
                modifier="wrap"
                sort={
                  column.value && {
                    columnIndex: index,
                    sortBy: sort ?? {},
                    onSort: (_, at, direction) => setSort({ index: at, direction }),
                  }
                }
              >
                {column.name}
              </Th>
            ))}
          </Tr>
        </Thead>
        <Tbody>
          {shown.slice(0, MOST).map((row) => (
            <Tr key={rowKey(row)}>
              {columns.map((column) => (
                <Td key={column.name} dataLabel={column.name}>
                  {column.cell(row)}
                </Td>
              ))}
            </Tr>
          ))}
        </Tbody>
      </Table>
    </>
  );
}
