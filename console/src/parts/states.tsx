// What a page shows while it waits, when it fails, and when there is nothing.

import { Alert, Bullseye, EmptyState, EmptyStateBody, Spinner } from '@patternfly/react-core';
import type { ReactNode } from 'react';
import type { Asked } from '../api/live';
import { text } from '../text';

export function Waiting() {
  return (
    <Bullseye>
      <Spinner aria-label={text.waiting} />
    </Bullseye>
  );
}

export function Nothing({ title, hint }: { title: string; hint?: string }) {
  return (
    <EmptyState titleText={title} headingLevel="h2" variant="sm">
      {hint && <EmptyStateBody>{hint}</EmptyStateBody>}
    </EmptyState>
  );
}

/** The content once it is here; what was here before stays, with a word, when it cannot be asked for again. */
export function Await<T>({ asked, children }: { asked: Asked<T>; children: (data: T) => ReactNode }) {
  return (
    <>
      {asked.error && (
        <Alert isInline variant="danger" title={text.failed}>
          {asked.error}
        </Alert>
      )}
      {asked.data === null ? !asked.error && <Waiting /> : children(asked.data)}
    </>
  );
}
