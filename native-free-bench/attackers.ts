// The process of the hostile clients: they come at once, stay until the parent is gone, and tell on request how they fared.
// Usage: attackers.js HOST PORT EXPORT COUNT KIND,...
import { HostileCrowd, type Kind } from './hostile.js';

const [, , host, port, exportName, count, kinds] = process.argv;
const crowd = new HostileCrowd({ host, port: Number(port), exportName }, Number(count), kinds.split(',') as Kind[]);

process.on('message', () => process.send?.(crowd.counts));
process.on('disconnect', () => {
  crowd.stop();
  process.exit();
});
process.send?.({ ready: true });
