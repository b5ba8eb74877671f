// One handshake with an export that nobody uses now: is its node there, how large is it, may it be written? Reads and
// writes nothing, and leaves again.
import type { Clock } from '../../replication/world.js';
import { type Outcome, refuse } from '../control.js';
import type { Negotiated } from '../nbd/client-handshake.js';
import { Link, type LinkOptions } from '../upstream/link.js';
import type { Dialer, WireAddress } from '../wire.js';

const PROBE_MS = 5000;

export function probeExport(
  dialer: Dialer,
  clock: Clock,
  address: WireAddress,
  exportName: string,
  wishes: LinkOptions['wishes'] = {},
): Promise<Outcome<Negotiated>> {
  return new Promise((resolve) => {
    let found: Negotiated | null = null;
    new Link(
      { dialer, clock, address, exportName, handshakeMs: PROBE_MS, wishes },
      {
        ready: (link, negotiated) => {
          found = negotiated;
          link.disconnect();
        },
        answered: () => {},
        closed: (link, _unanswered, reason) => {
          if (found !== null) resolve({ ok: true, value: found });
          // Some close on an option that they do not know.
          else if (link.endedAskingExtended) resolve(probeExport(dialer, clock, address, exportName, { extended: false }));
          else resolve(refuse('node-unreachable', reason));
        },
      },
    );
  });
}
