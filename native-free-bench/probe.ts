// Small questions about addresses of this machine: a free port, whether an NBD server answers there, whether an HTTP
// one is ready. Every answer comes within a second.
import { connect, createServer } from 'node:net';

const HOST = '127.0.0.1';
const ANSWER_MS = 1_000;

/** A TCP port that nothing listened on a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, HOST, () => {
      const address = server.address();
      server.close(() => (address !== null && typeof address === 'object' ? resolve(address.port) : reject(new Error('no port'))));
    });
  });
}

/** True when something listens there and greets, as an NBD server does. */
export function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: HOST, port });
    const conclude = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(ANSWER_MS, () => conclude(false));
    socket.on('data', () => conclude(true));
    socket.on('error', () => conclude(false));
    socket.on('close', () => conclude(false));
  });
}

/** True when `GET url` answers 200. */
export async function isOk(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS) });
    await response.arrayBuffer();
    return response.status === 200;
  } catch {
    return false;
  }
}
