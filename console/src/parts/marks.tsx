// Icon, word and colour together: no state is told by colour alone.

import { Label, Tooltip } from '@patternfly/react-core';
import AdjustIcon from '@patternfly/react-icons/dist/esm/icons/adjust-icon';
import BanIcon from '@patternfly/react-icons/dist/esm/icons/ban-icon';
import LockIcon from '@patternfly/react-icons/dist/esm/icons/lock-icon';
import LockOpenIcon from '@patternfly/react-icons/dist/esm/icons/lock-open-icon';
import MinusIcon from '@patternfly/react-icons/dist/esm/icons/minus-icon';
import ShieldAltIcon from '@patternfly/react-icons/dist/esm/icons/shield-alt-icon';
import UnlockIcon from '@patternfly/react-icons/dist/esm/icons/unlock-icon';
import type { ReactElement, ReactNode } from 'react';
import type { EdgeState, Lock, Mode, PortLock, Severity } from '../api/types';
import { href, type Window } from '../route';
import { locks, modes, states, text } from '../text';

type Colour = 'green' | 'blue' | 'orange' | 'red' | 'grey' | 'yellow';

function Mark({ colour, icon, word, why }: { colour: Colour; icon: ReactElement; word: ReactNode; why: ReactNode }) {
  return (
    <Tooltip content={why}>
      <Label color={colour} icon={icon} tabIndex={0}>
        {word}
      </Label>
    </Tooltip>
  );
}

const LOCKS: Record<Lock, [Colour, ReactElement]> = {
  locked: ['green', <LockIcon key="locked" />],
  hollow: ['blue', <UnlockIcon key="hollow" />],
  mixed: ['orange', <AdjustIcon key="mixed" />],
  open: ['red', <LockOpenIcon key="open" />],
  noEndpoints: ['grey', <MinusIcon key="none" />],
};

/** The lock beside a port of a service, with the objects that decided it. */
export function LockMark({ port }: { port: PortLock }) {
  const [colour, icon] = LOCKS[port.lock];
  const by = port.decidedBy.map((one) => (one === 'default' ? text.byDefault : one)).join(', ');
  const bare = port.withoutSidecar > 0 ? ` ${port.withoutSidecar} of ${port.endpoints} endpoints have no sidecar.` : '';
  const why = `${locks[port.lock].meaning}${by ? ` ${text.decidedBy} ${by}.` : ''}${bare}`;
  return <Mark colour={colour} icon={icon} word={locks[port.lock].word} why={why} />;
}

const MODES: Record<Mode, [Colour, ReactElement]> = {
  STRICT: ['green', <LockIcon key="strict" />],
  PERMISSIVE: ['blue', <UnlockIcon key="permissive" />],
  DISABLE: ['red', <LockOpenIcon key="disable" />],
};

/** A mode, and the object that decided it. */
export function ModeMark({ mode, by, inherited = false }: { mode: Mode; by: string; inherited?: boolean }) {
  const [colour, icon] = MODES[mode];
  const why = `${text.decidedBy} ${by === 'default' ? text.byDefault : by}`;
  const word = inherited ? `${modes[mode]} (${text.inherited})` : modes[mode];
  return <Mark colour={colour} icon={icon} word={word} why={why} />;
}

const STATES: Record<EdgeState, [Colour, ReactElement]> = {
  mtls: ['green', <LockIcon key="mtls" />],
  mixed: ['orange', <AdjustIcon key="mixed" />],
  plaintext: ['red', <LockOpenIcon key="plaintext" />],
  tls: ['blue', <ShieldAltIcon key="tls" />],
  refused: ['grey', <BanIcon key="refused" />],
};

/** What an edge is. */
export function StateMark({ state, why }: { state: EdgeState; why: string }) {
  const [colour, icon] = STATES[state];
  return <Mark colour={colour} icon={icon} word={states[state]} why={why} />;
}

const SEVERITIES: Record<Severity, Colour> = { error: 'red', warning: 'orange', info: 'blue' };

export function SeverityMark({ severity }: { severity: Severity }) {
  return <Label color={SEVERITIES[severity]}>{severity}</Label>;
}

/** A link to the page of one thing. */
export function To({ page, about, window }: { page: string; about: string; window: Window }) {
  return <a href={href(page, about, window)}>{about}</a>;
}
