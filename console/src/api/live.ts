// What the pages show, kept current: the stream says that something changed, and what is on the page is asked for again.

import { createContext, useContext, useEffect, useRef, useState } from 'react';
import { Questions } from './questions';
import type { Standing } from './types';

/** A stream that gives no sign of life for so long is lost; the server gives one every 5 seconds. */
const LOST_AFTER = 12_000;
/** What passes changes all the time; it is asked for at most this often. */
const TRAFFIC_PACE = 1_000;

export interface Live {
  /** Where everything stands; null before the first word. */
  standing: Standing | null;
  /** When the stream last gave a sign of life, milliseconds; null while it is well. */
  lostSince: number | null;
}

export const LiveContext = createContext<Live>({ standing: null, lostSince: null });

/** Follows the stream. Used once, at the root. */
export function useStream(): Live {
  const [live, setLive] = useState<Live>({ standing: null, lostSince: null });
  const heard = useRef(Date.now());
  useEffect(() => {
    let source: EventSource | null = null;
    const open = () => {
      source?.close();
      source = new EventSource('api/v1/stream');
      const alive = () => {
        heard.current = Date.now();
        setLive((old) => (old.lostSince === null ? old : { ...old, lostSince: null }));
      };
      source.onopen = alive;
      source.addEventListener('alive', alive);
      source.addEventListener('standing', (event) => {
        alive();
        setLive({ standing: JSON.parse(event.data) as Standing, lostSince: null });
      });
    };
    open();
    const watch = setInterval(() => {
      if (Date.now() - heard.current < LOST_AFTER) return;
      setLive((old) => ({ ...old, lostSince: old.lostSince ?? heard.current }));
      // A closed source does not come back by itself.
      if (source?.readyState === EventSource.CLOSED) open();
    }, 1_000);
    return () => {
      clearInterval(watch);
      source?.close();
    };
  }, []);
  return live;
}

export interface Asked<T> {
  data: T | null;
  /** Why it could not be asked for; what is in `data` is old then. */
  error: string | null;
}

/** What stands at a path below api/v1/, asked for again when the configuration, a proxy or (`traffic`) what passes changes. */
export function useAsked<T>(path: string, traffic = false): Asked<T> {
  const { standing } = useContext(LiveContext);
  const [asked, setAsked] = useState<Asked<T> & { path: string }>({ data: null, error: null, path });
  const again = useRef(() => {});
  useEffect(() => {
    const pace = traffic ? TRAFFIC_PACE : 0;
    const questions = new Questions(pace, async (signal) => {
      try {
        const data = (await ask(path, signal)) as T;
        if (!signal.aborted) setAsked({ data, error: null, path });
      } catch (error) {
        if (signal.aborted) return;
        const text = error instanceof Error ? error.message : String(error);
        setAsked((old) => ({ data: old.path === path ? old.data : null, error: text, path }));
      }
    });
    again.current = () => questions.changed();
    questions.changed();
    return () => questions.end();
  }, [path, traffic]);
  const { traffic: seen, ...rest } = standing ?? { traffic: 0 };
  const trigger = JSON.stringify(traffic ? [rest, seen] : rest);
  useEffect(() => again.current(), [trigger]);
  return asked.path === path ? asked : { data: null, error: null };
}

async function ask(path: string, signal: AbortSignal): Promise<unknown> {
  const answer = await fetch(`api/v1/${path}`, { signal });
  if (!answer.ok) throw new Error(await reason(answer));
  return answer.json();
}

async function reason(answer: Response): Promise<string> {
  const body = (await answer.json().catch(() => null)) as { error?: string } | null;
  return body?.error ?? `${answer.status} ${answer.statusText}`;
}
