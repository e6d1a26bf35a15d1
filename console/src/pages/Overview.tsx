// The mesh in one look: what policy says, what the wire shows, and what needs a person.

import { Card, CardBody, CardTitle, Content, Gallery, Stack, StackItem } from '@patternfly/react-core';
import { useContext } from 'react';
import { connections, share, span } from '../api/amounts';
import { LiveContext, useAsked } from '../api/live';
import type { Certificates, Mesh, Plaintext, Standing, Traffic } from '../api/types';
import { ModeMark } from '../parts/marks';
import { PlaintextCallers } from '../parts/plaintext';
import { Await } from '../parts/states';
import { href, type Route, type Window } from '../route';
import { phases, text } from '../text';

function PolicyCard({ mesh }: { mesh: Mesh }) {
  const sidecars = mesh.workloads.filter((workload) => workload.sidecar);
  const strict = sidecars.filter((one) => one.mode === 'STRICT' && one.ports.every((port) => port.mode === 'STRICT'));
  return (
    <Card isCompact>
      <CardTitle>{text.policySays}</CardTitle>
      <CardBody>
        <p>
          Mesh: <ModeMark mode={mesh.mode} by={mesh.decidedBy} />
        </p>
        <p>
          {strict.length} of {sidecars.length} workloads with a sidecar take mutual TLS only, on every port.
        </p>
        <p>
          Automatic mTLS is {mesh.autoMtls ? 'on' : 'off'}; the floor is {mesh.minTls === 'TLSV1_3' ? 'TLS 1.3' : 'TLS 1.2'}.
        </p>
      </CardBody>
    </Card>
  );
}

function WireCard({ traffic, window }: { traffic: Traffic; window: Window }) {
  const { mtls, total } = connections(traffic.edges);
  const open = traffic.edges.filter((edge) => edge.state === 'plaintext' || edge.state === 'mixed');
  const disagree = traffic.edges.filter((edge) => edge.disagreement !== null);
  return (
    <Card isCompact>
      <CardTitle>{text.wireShows}</CardTitle>
      <CardBody>
        <p>
          <strong>{share(mtls, total)}</strong> of {total} connections were mutual TLS ({total - mtls} were not).
        </p>
        <p>
          <a href={href('graph', null, window)}>
            {open.length} of {traffic.edges.length} edges
          </a>{' '}
          carry plaintext.
        </p>
        {disagree.length > 0 && <p>The two ends of {disagree.length} edges tell different things.</p>}
      </CardBody>
    </Card>
  );
}

function FindingsCard({ mesh, window }: { mesh: Mesh; window: Window }) {
  const count = (severity: string) => mesh.findings.filter((finding) => finding.severity === severity).length;
  return (
    <Card isCompact>
      <CardTitle>Findings</CardTitle>
      <CardBody>
        <a href={href('policies', null, window)}>
          {count('error')} errors, {count('warning')} warnings, {count('info')} remarks
        </a>
      </CardBody>
    </Card>
  );
}

function CertificatesCard({ certificates, window }: { certificates: Certificates; window: Window }) {
  const living = certificates.certificates.filter((one) => one.kind !== 'token');
  const next = living.reduce<number | null>((least, one) => Math.min(least ?? Infinity, one.remainingSeconds), null);
  const failing = living.filter((one) => one.forecast !== null);
  return (
    <Card isCompact>
      <CardTitle>Certificates</CardTitle>
      <CardBody>
        <p>{next === null ? 'None is known.' : `The next one ends in ${span(next)}.`}</p>
        <p>
          <a href={href('certificates', null, window)}>{failing.length === 0 ? 'All renewals work.' : `${failing.length} need a person.`}</a>
        </p>
      </CardBody>
    </Card>
  );
}

function SyncCard({ standing, window }: { standing: Standing | null; window: Window }) {
  return (
    <Card isCompact>
      <CardTitle>Control plane</CardTitle>
      <CardBody>
        {standing && (
          <>
            <p>
              Generation {standing.generation}: {phases[standing.phase]}.
            </p>
            <p>
              <a href={href('proxies', null, window)}>
                {standing.proxiesCurrent} of {standing.proxiesConnected} connected sidecars
              </a>{' '}
              hold it.
            </p>
          </>
        )}
      </CardBody>
    </Card>
  );
}

export function Overview({ route: { window } }: { route: Route }) {
  const { standing } = useContext(LiveContext);
  const mesh = useAsked<Mesh>('mesh');
  const traffic = useAsked<Traffic>(`traffic?window=${window}`, true);
  const plaintext = useAsked<Plaintext>(`plaintext?window=${window}`, true);
  const certificates = useAsked<Certificates>('certificates');
  return (
    <Stack hasGutter>
      <StackItem>
        <Gallery hasGutter minWidths={{ default: '18rem' }}>
          <Await asked={mesh}>{(data) => <PolicyCard mesh={data} />}</Await>
          <Await asked={traffic}>{(data) => <WireCard traffic={data} window={window} />}</Await>
          <Await asked={mesh}>{(data) => <FindingsCard mesh={data} window={window} />}</Await>
          <Await asked={certificates}>{(data) => <CertificatesCard certificates={data} window={window} />}</Await>
          <SyncCard standing={standing} window={window} />
        </Gallery>
      </StackItem>
      <StackItem>
        <Content component="h2">Callers without TLS</Content>
        <Await asked={plaintext}>{(data) => <PlaintextCallers callers={data.callers} window={window} />}</Await>
      </StackItem>
    </Stack>
  );
}
