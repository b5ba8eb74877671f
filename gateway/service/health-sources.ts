// Where each node's samples come from: the sources its configuration names, and an agent's own metrics where it names none.
import type { Config } from '../../config/config.js';
import type { Fleet } from '../fleet/fleet.js';
import { AgentSource } from '../health/agent-source.js';
import { HttpSource } from '../health/http-source.js';
import type { Source } from '../health/oracle.js';

const AGENT_EVERY_MS = 15_000;

export function sourcesOf(config: Config, fleet: Fleet): Source[] {
  const sources: Source[] = [];
  for (const { id, health } of config.nodes) {
    for (const { type, url, everyMs } of health) sources.push(new HttpSource({ node: id, type, url, everyMs }));
    const agent = fleet.get(id)?.agent ?? null;
    if (health.length === 0 && agent !== null) sources.push(new AgentSource(id, `the agent of ${id}`, AGENT_EVERY_MS, agent));
  }
  return sources;
}
