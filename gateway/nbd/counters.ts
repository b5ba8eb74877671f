// What an NBD server counts: plain fields and typed arrays that the I/O path adds to and a scrape reads. Only ever grows.
import { COMMAND } from './constants.js';

const COMMANDS = Object.keys(COMMAND).length;

export class ServerCounters {
  /** By number of COMMAND; requests with an unknown command are in `unknownCommands`. */
  readonly requests = new Float64Array(COMMANDS);
  /** By number of COMMAND: bytes read, written, zeroed, of requests that were let through. */
  readonly bytes = new Float64Array(COMMANDS);
  /** By number of COMMAND: requests answered with an error, whether refused here or failed by the device. */
  readonly errors = new Float64Array(COMMANDS);
  unknownCommands = 0;
  /** Connections taken, and those closed at once because there were too many. */
  accepted = 0;
  turnedAway = 0;
  /** Handshakes that reached transmission, and those that ended before it. */
  attached = 0;
  handshakesFailed = 0;
  /** TLS handshakes that were completed, and clients that were not who they have to be, or asked for an export that is not for them. */
  secured = 0;
  refused = 0;
  /** Sessions cut off because the client broke the protocol. */
  violations = 0;
}
