// From a page of Prometheus text to samples. A page that is refused gives none at all: half a page could hide the half
// that matters.
import { samplesFromNodeExporter } from '../../pfa/node-exporter.js';
import { parsePrometheusText } from '../../pfa/prometheus-text.js';
import type { Sample } from '../../pfa/sample.js';
import { samplesFromSmartctlExporter } from '../../pfa/smartctl-exporter.js';
import { type Outcome, refuse } from '../control.js';
import type { Source } from './oracle.js';

/** Codes: `page-invalid`, and `page-empty` for an exporter's page without any metric the predictor knows. */
export function readPage(type: Source['type'], text: string, node: string, atMs: number): Outcome<Sample[]> {
  const wanted = type === 'node_exporter' ? /^node_/ : /^smartctl_/;
  const page = parsePrometheusText(text, { wanted: (family) => wanted.test(family) });
  if (!page.ok) return refuse('page-invalid', `line ${page.line} of its page is no Prometheus text: ${page.message}`);
  const read = type === 'node_exporter' ? samplesFromNodeExporter : samplesFromSmartctlExporter;
  const samples = read(page.families, node, atMs);
  // An agent may stand on disks nobody can question: that is no fault of its page.
  if (samples.length > 0 || type === 'agent') return { ok: true, value: samples };
  return refuse('page-empty', `its page has no metric of a ${type}: is that its address?`);
}
