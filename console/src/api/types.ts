// The JSON of the control plane's API (crates/control/src/api): the same names, in the same order.

export type Mode = 'STRICT' | 'PERMISSIVE' | 'DISABLE';
export type Lock = 'locked' | 'hollow' | 'mixed' | 'open' | 'noEndpoints';
export type Phase = 'widen' | 'switch' | 'complete';
export type Severity = 'error' | 'warning' | 'info';
export type Reporter = 'source' | 'destination';
export type EdgeState = 'mtls' | 'mixed' | 'plaintext' | 'tls' | 'refused';

export interface Standing {
  generation: number;
  phase: Phase;
  rejected: string | null;
  proxiesConnected: number;
  proxiesCurrent: number;
  traffic: number;
}

export interface Finding {
  file: string;
  line: number;
  object: string;
  path: string;
  code: string;
  severity: Severity;
  message: string;
  fix: string;
}

export interface PortLock {
  port: number;
  name: string;
  lock: Lock;
  targetPorts: number[];
  decidedBy: string[];
  endpoints: number;
  withoutSidecar: number;
}

export interface Service {
  host: string;
  name: string;
  namespace: string;
  external: boolean;
  ports: PortLock[];
}

export interface WorkloadPort {
  port: number;
  mode: Mode;
  decidedBy: string;
  service: string | null;
}

export interface Workload {
  workload: string;
  serviceAccount: string;
  identity: string | null;
  addresses: string[];
  sidecar: boolean;
  mode: Mode;
  decidedBy: string;
  ports: WorkloadPort[];
}

export interface Namespace {
  name: string;
  mode: Mode;
  decidedBy: string;
  inherited: boolean;
  workloads: number;
  withSidecar: number;
  overridden: number;
  errors: number;
  warnings: number;
}

export interface Mesh {
  generation: number;
  since: string;
  mode: Mode;
  decidedBy: string;
  autoMtls: boolean;
  minTls: 'TLSV1_2' | 'TLSV1_3';
  trustDomain: string;
  rootNamespace: string;
  namespaces: Namespace[];
  services: Service[];
  workloads: Workload[];
  findings: Finding[];
}

export interface Amount {
  connections: number;
  failed: number;
  requests: number;
  failedRequests: number;
  receivedBytes: number;
  sentBytes: number;
}

export interface TrafficNode {
  id: string;
  kind: 'workload' | 'service' | 'address' | 'many';
  namespace: string | null;
  sidecar: boolean | null;
}

export interface Failure {
  code: string;
  reporter: Reporter;
  count: number;
}

export interface Protection {
  tlsVersion: string;
  cipher: string;
  group: string;
  connections: number;
}

export interface TrafficEdge {
  from: string;
  to: string;
  state: EdgeState;
  services: string[];
  ports: number[];
  mtls: Amount;
  tls: Amount;
  plaintext: Amount;
  open: number;
  failures: Failure[];
  protections: Protection[];
  fromIdentities: string[];
  toIdentities: string[];
  firstSeen: string;
  lastSeen: string;
  reporters: Reporter[];
  disagreement: string | null;
}

export interface Traffic {
  from: string;
  until: string;
  nodes: TrafficNode[];
  edges: TrafficEdge[];
}

export interface PlaintextCaller {
  workload: string;
  port: number;
  service: string | null;
  caller: string;
  callerKind: TrafficNode['kind'];
  callerSidecar: boolean | null;
  connections: number;
  requests: number;
  refused: number;
  firstSeen: string;
  lastSeen: string;
}

export interface Plaintext {
  from: string;
  until: string;
  callers: PlaintextCaller[];
}

export interface Certificate {
  kind: 'root' | 'issuer' | 'revocation-list' | 'control-plane' | 'workload' | 'token';
  owner: string;
  workloads: string[];
  serial: string;
  issuer: string;
  notAfter: string;
  remainingSeconds: number;
  renewAt: string | null;
  lastAttempt: string | null;
  lastRenewalError: string | null;
  clockSkewMs: number | null;
  forecast: string | null;
}

export interface Certificates {
  certificates: Certificate[];
}

export interface Proxy {
  workload: string;
  identity: string;
  address: string;
  connected: boolean;
  since: string | null;
  version: string;
  sent: number;
  acknowledged: number;
  current: boolean;
  refused: { type: string; generation: number; error: string; resources: string[] }[];
  openConnections: number | null;
  drainedByForce: number | null;
  recentRefusals: {
    code: string;
    direction: string;
    peerAddress: string;
    peerIdentity: string;
    port: number;
    count: number;
    message: string;
  }[];
}

export interface Proxies {
  generation: number;
  phase: Phase;
  rejected: string | null;
  notEnforced: string[];
  proxies: Proxy[];
}

export interface Rollout {
  generation: number;
  began: string;
  phase: Phase;
  since: string;
  enforced: string | null;
  waitingFor: string[];
  leftBehind: { workload: string; phase: Phase }[];
  overtaken: boolean;
  aborted: boolean;
}
