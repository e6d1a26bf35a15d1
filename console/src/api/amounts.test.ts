import { expect, test } from 'vitest';
import { bytes, share, span } from './amounts';

test('what is not all is never shown as all, and what is something never as nothing', () => {
  expect(share(1, 1)).toBe('100 %');
  expect(share(999_999, 1_000_000)).toBe('99.99 %');
  expect(share(996, 1000)).toBe('99.60 %');
  expect(share(1, 1_000_000)).toBe('< 0.01 %');
  expect(share(0, 5)).toBe('0 %');
  expect(share(0, 0)).toBe('–');
});

test('times and sizes have two units', () => {
  expect([span(59), span(61), span(3_660), span(90_000), span(-1)]).toEqual(['59s', '1m 1s', '1h 1m', '1d 1h', 'ended']);
  expect([bytes(999), bytes(1_500), bytes(2_000_000)]).toEqual(['999 B', '1.5 kB', '2.0 MB']);
});
