// A bare TCP relay in Node, in a process of its own: forwards bytes and understands none of them. It is the least any
// proxy on Node does, so what a path loses beside it is the price of its own work. Usage: relay.js HOST PORT
// Tells its parent the port it listens on and ends with it.
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

const [, , host, port] = process.argv;

function join(client: Socket): void {
  const server = connect({ host, port: Number(port), noDelay: true });
  for (const socket of [client, server]) {
    // Whatever ends one side ends the other: the load generator sees the connection close.
    socket.on('error', () => {});
    socket.on('close', () => {
      client.destroy();
      server.destroy();
    });
  }
  client.pipe(server);
  server.pipe(client);
}

const listener = createServer({ noDelay: true }, join);
listener.listen(0, '127.0.0.1', () => process.send?.({ port: (listener.address() as AddressInfo).port }));
process.on('disconnect', () => process.exit());
