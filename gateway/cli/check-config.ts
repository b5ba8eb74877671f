// `forestall check-config`: everything that is wrong with a configuration file, or that it is right. Opens nothing else.
import { readConfig } from '../../config/load.js';
import { plural } from '../../config/plural.js';
import { formatProblem } from '../../config/problem.js';
import { EXIT, type ExitCode } from './cli-error.js';
import type { Output } from './output.js';

export async function checkConfig(output: Output, file: string): Promise<ExitCode> {
  const loaded = await readConfig(file);
  if (!loaded.ok) {
    if (output.json) {
      output.result({ ok: false, problems: loaded.problems }, () => '');
    }
    for (const problem of loaded.problems) {
      output.note(formatProblem(problem));
    }
    return EXIT.REFUSED;
  }
  const { nodes, volumes, policies } = loaded.config;
  const counts = { nodes: nodes.length, volumes: volumes.length, policies: policies.length };
  output.result({ ok: true, ...counts }, () => {
    const parts = [plural(counts.nodes, 'node'), plural(counts.volumes, 'volume'), plural(counts.policies, 'policy', 'policies')];
    return `${file} is right: ${parts.join(', ')}.\n`;
  });
  return EXIT.OK;
}
