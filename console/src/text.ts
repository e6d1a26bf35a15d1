// Words and sentences that several pages share.

import type { EdgeState, Lock, Mode, Phase } from './api/types';

export const modes: Record<Mode, string> = { STRICT: 'Strict', PERMISSIVE: 'Permissive', DISABLE: 'Disabled' };

export const locks: Record<Lock, { word: string; meaning: string }> = {
  locked: { word: 'mTLS', meaning: 'Every endpoint takes mutual TLS only.' },
  hollow: { word: 'mTLS or plaintext', meaning: 'Every endpoint takes both mutual TLS and plaintext.' },
  mixed: { word: 'Mixed', meaning: 'Endpoints differ in what they take.' },
  open: { word: 'No mTLS', meaning: 'Every endpoint takes plaintext only, or has no sidecar.' },
  noEndpoints: { word: 'No endpoints', meaning: 'Nobody serves this port, or it is UDP.' },
};

export const states: Record<EdgeState, string> = {
  mtls: 'mTLS',
  mixed: 'Mixed',
  plaintext: 'Plaintext',
  tls: 'TLS, not the mesh’s',
  refused: 'Refused',
};

export const phases: Record<Phase, string> = {
  widen: 'receivers widen',
  switch: 'senders switch',
  complete: 'complete',
};

export const text = {
  product: 'Mutua',
  skip: 'Skip to the content',
  navigation: 'Pages',
  pages: {
    overview: 'Overview',
    graph: 'Traffic graph',
    namespaces: 'Namespaces',
    services: 'Services',
    workloads: 'Workloads',
    policies: 'Findings',
    certificates: 'Certificates',
    proxies: 'Proxies and rollouts',
  },
  window: 'Time range',
  windowOf: (window: string) => `Last ${window}`,
  dark: 'Dark',
  policySays: 'Policy says',
  wireShows: 'Wire shows',
  waiting: 'Asking the control plane…',
  lost: (age: string) => `The connection to the control plane is lost. What you see is ${age} old.`,
  failed: 'The control plane does not answer',
  nothing: {
    traffic: 'No traffic was seen in this time range.',
    traffic_hint: 'Choose a longer range, or send something: sidecars report within a second.',
    services: 'There are no services yet.',
    workloads: 'There are no workloads yet. Add WorkloadEntries or Pods to the configuration.',
    findings: 'No findings: nothing in the configuration contradicts anything else.',
    plaintext: 'Nobody called without TLS in this time range.',
    proxies: 'No sidecar has connected yet.',
    rollouts: 'No change since the control plane runs.',
    found: (about: string) => `There is no ${about}.`,
  },
  decidedBy: 'Decided by',
  byDefault: 'mesh default',
  inherited: 'inherited',
  outside: 'outside the mesh',
};
