// A storage node that needs nothing but Node, in a process of its own: one export in memory. Stands in for nbdkit where
// that is not installed. Usage: memory-node.js BYTES. Tells its parent the port it listens on and ends with it.
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { MemorySession } from './memory-session.js';

const memory = Buffer.alloc(Number(process.argv[2]));

function serve(socket: Socket): void {
  const session = new MemorySession(memory, (bytes) => {
    if (!socket.write(bytes)) socket.pause();
  });
  socket.on('data', (chunk) => {
    socket.cork();
    session.receive(chunk);
    socket.uncork();
    if (session.ended) socket.end();
  });
  socket.on('drain', () => socket.resume());
  socket.on('error', () => socket.destroy());
}

const listener = createServer({ noDelay: true }, serve);
listener.listen(0, '127.0.0.1', () => process.send?.({ port: (listener.address() as AddressInfo).port }));
process.on('disconnect', () => process.exit());
