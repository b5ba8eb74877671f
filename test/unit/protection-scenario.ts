// Scenarios for protection that read like a log: one command or expectation a line, on a clock that only moves when
// told. The commands are in the table COMMANDS; a failure names its line.
import assert from 'node:assert/strict';
import { parseDuration, parseSize } from '../../config/units.js';
import type { MirrorState, Outcome } from '../../gateway/control.js';
import type { NodeFacts } from '../../gateway/placement/node-facts.js';
import { FakeVolume, policy, settle } from './protection-fakes.js';
import { World } from './protection-world.js';

type Command = (world: World, words: string[], rest: Scenario) => void | Promise<void>;

interface Scenario {
  /** Answers to operators' wishes that have not come yet. */
  wishes: { text: string; outcome: Promise<Outcome<unknown>>; settled: Outcome<unknown> | null }[];
}

function volumeOf(world: World, name: string): FakeVolume {
  const volume = world.volumes.get(name);
  assert(volume, `there is no volume ${name}`);
  return volume;
}

function options(words: string[]): Record<string, unknown> {
  return Object.fromEntries(
    words.map((word) => {
      const [key, value] = word.split('=');
      if (value === 'true' || value === 'false') return [key, value === 'true'];
      if (/^[\d.]+$/.test(value)) return [key, Number(value)];
      const duration = parseDuration(value);
      return duration.ok ? [`${key}Ms`, duration.value] : [key, value];
    }),
  );
}

function milliseconds(text: string): number {
  const parsed = parseDuration(text);
  assert(parsed.ok, `no duration: ${text}`);
  return parsed.value;
}

function wish(world: World, scenario: Scenario, words: string[]): void {
  const [what, volume, node = null] = words;
  const { protection } = world;
  const asked: Record<string, () => Promise<Outcome<unknown>>> = {
    mirror: () => protection.operatorMirror(volume, node),
    drop: () => protection.operatorDropMirror(volume, node ?? ''),
    flip: () => protection.operatorFlip(volume, node),
    rollback: () => protection.rollback(volume),
    scrub: () => protection.scrub(volume),
  };
  const entry: Scenario['wishes'][number] = { text: words.join(' '), outcome: asked[what](), settled: null };
  entry.outcome.then((outcome) => {
    entry.settled = outcome;
  });
  scenario.wishes.push(entry);
}

const COMMANDS: Record<string, Command> = {
  /** node b [zone=z] [site=s] [kind=plain] [spares=x,y] */
  node: (world, [id, ...words]) => {
    const { spares, ...change } = options(words) as Omit<Partial<NodeFacts>, 'spares'> & { spares?: string };
    const names = spares?.split(',') ?? [];
    world.addNode(id, { ...change, spares: names.map((name) => ({ export: name, sizeBytes: null })) });
  },
  /** volume vol0 a 1GiB [priority=10] [policy keys] */
  volume: (world, [name, node, size, ...words]) => {
    const parsed = parseSize(size);
    assert(parsed.ok);
    const volume = new FakeVolume(name, parsed.value, { node, export: name }, world.clock);
    const { priority = 100, ...rest } = options(words) as { priority?: number };
    volume.policy = policy(rest);
    volume.priority = priority;
    world.volumes.set(name, volume);
    world.nodes.get(node)?.exports.set(name, name);
    if (world.protection) world.protect(volume);
  },
  policy: (world, [name, ...words]) => {
    volumeOf(world, name).policy = policy(options(words));
    world.protection.policiesChanged();
  },
  start: (world) => world.start(),
  stop: (world) => world.stop(),
  restart: async (world) => {
    await world.stop();
    world.start();
  },
  crash: (world) => {
    world.crash();
    world.start();
  },
  /** verdict a 0.9 [outside] [fails=2h] */
  verdict: (world, [node, probability, ...words]) => {
    const fails = words.find((word) => word.startsWith('fails='))?.slice(6);
    const origin = words.includes('outside') ? 'outside' : 'model';
    world.judge(node, probability === 'none' ? null : Number(probability), origin, fails ? milliseconds(fails) : null);
  },
  clear: (world, [node]) => world.judge(node, 0.01, 'model', null),
  /** mirror vol0 b synced */
  mirror: (world, [name, node, to]) => volumeOf(world, name).set(node, to as MirrorState, to === 'lost' ? 'connection refused' : null),
  /** The active target of vol0 dies and its complete mirror takes over. */
  failover: (world, [name]) => {
    const volume = volumeOf(world, name);
    const ready = volume.views.find((view) => view.state === 'synced');
    assert(ready, 'nothing to fail over to');
    volume.fact({ type: 'target-lost', target: volume.active, reason: 'connection reset' });
    const certificate = volume.move({ node: ready.node, export: ready.export }, 'failover', 'lost', 'the old target died');
    volume.fact({ type: 'flipped', certificate });
  },
  lost: (world, [name]) => {
    const volume = volumeOf(world, name);
    volume.fact({ type: 'target-lost', target: volume.active, reason: 'connection reset' });
  },
  /** The flip is committed, but the gateway ends before it hears of it. */
  'commit-unheard': (world, [name]) => {
    const volume = volumeOf(world, name);
    const ready = volume.views.find((view) => view.state === 'synced');
    assert(ready);
    volume.move({ node: ready.node, export: ready.export }, 'flip', 'synced', '');
  },
  /** refuse vol0 flip deadline passed | refuse vol0 flip */
  refuse: (world, [name, call, ...reason]) => {
    volumeOf(world, name).refuses[call as 'flip'] = reason.length > 0 ? reason.join(' ') : null;
  },
  hold: (world, [name, call]) => {
    volumeOf(world, name).holds.add(call as 'flip');
  },
  release: (world, [name, call]) => {
    const volume = volumeOf(world, name);
    volume.holds.delete(call as 'flip');
    volume.held[call as 'flip']?.();
  },
  damage: (world, [name, how]) => {
    volumeOf(world, name).damage = how as FakeVolume['damage'];
  },
  /** agent b refuses-delete no route | agent b refuses-create | agent b down */
  agent: (world, [id, what, ...reason]) => {
    const node = world.nodes.get(id);
    assert(node);
    const text = reason.length > 0 ? reason.join(' ') : null;
    if (what === 'down' || what === 'up') node.facts.state = what;
    else if (what === 'refuses-delete') node.refusesDelete = text;
    else node.refusesCreate = text;
  },
  store: (world, [what]) => {
    world.records.failing = what === 'fails' ? 'no space left on device' : null;
  },
  'early-timers': (world) => {
    world.clock.early = true;
  },
  /** clock ahead 30h | clock back 30h: somebody sets it, and no time passes */
  clock: (world, [way, duration]) => {
    world.clock.setMs += milliseconds(duration) * (way === 'back' ? -1 : 1);
  },
  tick: (world, [duration]) => world.clock.advance(milliseconds(duration)),
  operator: (world, words, scenario) => wish(world, scenario, words),
  forget: (world) => {
    world.events = [];
  },
  expect: (world, words, scenario) => expectation(world, words, scenario),
};

/** expect vol0 synced on a mirrors b:synced,c:copying | expect event TYPE [text] | expect no event TYPE | expect answer ok|CODE */
function expectation(world: World, words: string[], scenario: Scenario): void {
  const [first, second, ...rest] = words;
  if (first === 'event') {
    const text = rest.join(' ');
    const found = world.events.filter((event) => event.type === second);
    assert(
      found.some((event) => event.message.includes(text)),
      `no event ${second} with "${text}", but:\n${found.map((event) => `  ${event.message}`).join('\n') || '  none of that type'}`,
    );
  } else if (first === 'no' && second === 'event') {
    const found = world.events.filter((event) => event.type === rest[0]);
    assert.deepEqual(
      found.map((event) => event.message),
      [],
    );
  } else if (first === 'answer') {
    const next = scenario.wishes.shift();
    assert(next?.settled, `${next?.text ?? 'a wish'} has not been answered`);
    assert.equal(next.settled.ok ? 'ok' : next.settled.code, second, JSON.stringify(next.settled));
  } else if (first === 'pending') {
    assert(scenario.wishes[0] && scenario.wishes[0].settled === null, 'the wish has been answered');
  } else if (first === 'recorded') {
    assert.equal((world.records.get(`protection/${second}`) as { state?: string } | undefined)?.state, rest.join(' '));
  } else if (first === 'exports') {
    assert.equal([...(world.nodes.get(second)?.exports.keys() ?? [])].sort().join(',') || 'none', rest.join(' '));
  } else if (first === 'waits') {
    assert.equal(world.protection.state(second)?.waitsFor ?? 'none', rest.join(' '));
  } else if (first === 'lessons') {
    assert.equal(world.lessons.join(', ') || 'none', words.slice(1).join(' '));
  } else if (first === 'trimmed') {
    assert.equal(world.trimmed.join(', ') || 'none', words.slice(1).join(' '));
  } else if (first === 'spares') {
    assert.equal(world.control.freeSpares(second).join(',') || 'none', rest.join(' '));
  } else if (first === 'scrubs') {
    assert.equal(volumeOf(world, second).scrubs, Number(rest[0]));
  } else {
    expectVolume(world, words);
  }
}

function expectVolume(world: World, [name, state, ...words]: string[]): void {
  const volume = volumeOf(world, name);
  const view = world.protection.state(name);
  assert(view);
  const said = `${view.state} on ${volume.active.node} mirrors ${volume.views.map((mirror) => `${mirror.node}:${mirror.state}`).join(',') || 'none'}`;
  const wanted: Record<string, string> = { state };
  for (let at = 0; at < words.length; at += 2) wanted[words[at]] = words[at + 1];
  assert.equal(view.state, wanted.state, `${said} (${view.cause}; waits for: ${view.waitsFor})`);
  if (wanted.on) assert.equal(volume.active.node, wanted.on, said);
  if (wanted.mirrors) {
    const mirrors = volume.views.map((mirror) => `${mirror.node}:${mirror.state}`).sort();
    assert.deepEqual(mirrors, wanted.mirrors === 'none' ? [] : wanted.mirrors.split(',').sort(), said);
  }
}

/** Runs a scenario; `#` begins a comment. */
export async function play(text: string): Promise<World> {
  const world = new World();
  const scenario: Scenario = { wishes: [] };
  for (const [index, line] of text.split('\n').entries()) {
    const words = line.replace(/#.*/, '').trim().split(/\s+/).filter(Boolean);
    if (words.length === 0) continue;
    const command = COMMANDS[words[0]];
    assert(command, `line ${index + 1}: no command ${words[0]}`);
    try {
      await command(world, words.slice(1), scenario);
      await settle();
    } catch (error) {
      (error as Error).message = `line ${index + 1}: ${line.trim()}\n${(error as Error).message}`;
      await world.stop();
      throw error;
    }
  }
  await world.stop();
  return world;
}
