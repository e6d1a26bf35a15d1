import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Questions } from './questions';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Questions whose answers take `slow` ms, and how many were asked and answered. */
function questions(pace: number, slow: number) {
  const counts = { asked: 0, answered: 0, aborted: 0 };
  const made = new Questions(pace, async (signal) => {
    counts.asked += 1;
    signal.addEventListener('abort', () => (counts.aborted += 1));
    await new Promise((done) => setTimeout(done, slow));
    counts.answered += 1;
  });
  return { made, counts };
}

test('a slow answer is waited for although everything changes meanwhile', async () => {
  const { made, counts } = questions(1_000, 3_000);
  for (let ms = 0; ms < 10_000; ms += 250) {
    made.changed();
    await vi.advanceTimersByTimeAsync(250);
  }
  expect(counts).toEqual({ asked: 4, answered: 3, aborted: 0 });
});

test('it is asked at its pace, and the last change is never missed', async () => {
  const { made, counts } = questions(1_000, 10);
  for (let ms = 0; ms < 5_000; ms += 250) {
    made.changed();
    await vi.advanceTimersByTimeAsync(250);
  }
  // At 0, 1, 2, 3, 4 s, and at 5 s for what changed since.
  expect(counts.asked).toBe(6);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(counts.asked).toBe(6);
});

test('after the end nothing is asked', async () => {
  const { made, counts } = questions(0, 10);
  made.changed();
  made.end();
  made.changed();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(counts.asked).toBe(0);
});
