// Waits until a program that a test started takes connections on its port.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { eventually } from './eventually.js';
import type { StartedProgram } from './started-program.js';

const STARTS_WITHIN_MS = 20_000;

/** Rejects when it does not, or has ended. */
export async function untilListening(program: StartedProgram, port: number): Promise<void> {
  const connects = () => {
    return new Promise<boolean>((resolve) => {
      const socket = connect({ host: '127.0.0.1', port });
      const answer = (connected: boolean) => () => {
        socket.destroy();
        resolve(connected || !program.running);
      };
      socket.on('connect', answer(true));
      socket.on('error', answer(false));
    });
  };
  await eventually(`${program.name} listens`, connects, Boolean, STARTS_WITHIN_MS);
  assert(program.running, `${program.name} ended: ${program.tail}`);
}
