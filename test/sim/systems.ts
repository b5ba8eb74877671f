// The systems a simulation can run, by name.
import { gatewaySystem } from './gateway-system.js';
import { BUGS, type Bug } from './reference-bugs.js';
import { referenceSystem } from './reference-system.js';
import type { SystemUnderTest } from './system.js';

/** `gateway`, `reference`, or `reference:BUG[,BUG]`. Throws with the names there are. */
export function findSystem(name: string): SystemUnderTest {
  if (name === 'gateway') return gatewaySystem;
  const [kind, list = ''] = name.split(':');
  const bugs = list.split(',').filter((bug) => bug !== '');
  const unknown = bugs.find((bug) => !Object.hasOwn(BUGS, bug));
  if (kind !== 'reference' || unknown !== undefined) {
    throw new Error(`no system ${name}: there are gateway, reference, and reference:BUG with ${Object.keys(BUGS).join(', ')}`);
  }
  return referenceSystem(bugs as Bug[]);
}
