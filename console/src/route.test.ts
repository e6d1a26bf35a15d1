import { expect, test } from 'vitest';
import { href, parse } from './route';

test('an address leads to the page that it was made for', () => {
  const made = href('workloads', 'shop/front', '1h', { port: '80' });
  const { page, about, window, query } = parse(made);
  expect([page, about, window, query.get('port')]).toEqual(['workloads', 'shop/front', '1h', '80']);
  expect(parse('')).toMatchObject({ page: 'overview', about: null, window: '10m' });
  expect(parse('#/services?window=7y').window).toBe('10m');
  expect(href('services', null, '10m')).toBe('#/services');
});
