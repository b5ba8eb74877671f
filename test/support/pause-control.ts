// nbdkit's pause filter, worked over its control socket: while it pauses no request of the node is begun, and those that were are done.
import { once } from 'node:events';
import { connect } from 'node:net';

async function tell(socketPath: string, word: 'p' | 'r'): Promise<void> {
  const socket = connect(socketPath);
  try {
    await once(socket, 'connect');
    socket.write(word);
    // It answers with the same letter, in upper case, when it is so.
    await once(socket, 'data');
  } finally {
    socket.destroy();
  }
}

export function pause(socketPath: string): Promise<void> {
  return tell(socketPath, 'p');
}

export function resume(socketPath: string): Promise<void> {
  return tell(socketPath, 'r');
}
