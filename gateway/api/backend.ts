// What the HTTP API needs of the gateway, and nothing more: the composition root implements it over the volumes, the
// protection, the health of the nodes and the event log. Wishes that may be refused give an Outcome; api/status.ts
// says which HTTP status each refusal's code becomes. Nothing here may block, and every promise must settle in time.
import type { FlipCertificate, MirrorView, NodeView, Outcome, ScrubReport, TargetRef, Verdict, VolumeView } from '../control.js';
import type { EventQuery } from '../events/event-filter.js';
import type { EventFollower } from '../events/event-follower.js';
import type { EventPage } from '../events/event-log.js';

export interface Readiness {
  ready: boolean;
  /** Why it is not ready, a sentence each; volumes that wait or are blocked may be named even when it is. */
  reasons: string[];
}

/** A scrub under way: how it stands now, and its end. */
export interface ScrubRun {
  report: ScrubReport;
  finished: Promise<Outcome<ScrubReport>>;
}

/** What a rollback did: before the flip the mirrors are dropped, after it the volume flips back. */
export interface RollbackReport {
  volume: string;
  kind: 'mirrors-dropped' | 'flipped-back';
  dropped: TargetRef[];
  certificate: FlipCertificate | null;
}

export interface SamplesReceipt {
  /** Values taken up. */
  accepted: number;
  /** What was left out and why, a sentence each. */
  ignored: string[];
}

export interface ReloadReport {
  /** What changed, a sentence each; empty: nothing. */
  changes: string[];
}

export interface VerdictQuery {
  node?: string;
  firing?: boolean;
  /** The newest so many. */
  limit: number;
}

/** Implemented by gateway/events/event-log.ts. */
export interface EventFeed {
  readonly latestId: number;
  history(query: EventQuery): Promise<EventPage>;
  follow(after: number | null): EventFollower;
}

export interface Backend {
  readonly events: EventFeed;
  ready(): Readiness;
  volumes(): VolumeView[];
  volume(name: string): VolumeView | undefined;
  /** Null: placement chooses the node. Resolves when copying has begun. */
  addMirror(volume: string, node: string | null): Promise<Outcome<MirrorView>>;
  removeMirror(volume: string, node: string): Promise<Outcome<TargetRef>>;
  /** Null: to the best mirror. */
  flip(volume: string, node: string | null): Promise<Outcome<FlipCertificate>>;
  /** Null: the mirror that lacks the least. Refused while the active target answers, and while what may be lost is not agreed to. */
  takeOver(volume: string, node: string | null, acceptLoss: boolean): Promise<Outcome<FlipCertificate>>;
  rollback(volume: string): Promise<Outcome<RollbackReport>>;
  /** Resolves when it is as large, or was: as large as it is is no error. */
  grow(volume: string, sizeBytes: number): Promise<Outcome<VolumeView>>;
  /** Resolves when the scrub has begun. */
  scrub(volume: string): Promise<Outcome<ScrubRun>>;
  nodes(): NodeView[];
  node(id: string): NodeView | undefined;
  /** `body` is what was posted: any JSON; the backend decides what it is. */
  pushSamples(node: string, body: unknown): Promise<Outcome<SamplesReceipt>>;
  giveVerdict(node: string, given: { probability: number; reason: string }): Promise<Outcome<Verdict>>;
  /** Newest last. */
  verdicts(query: VerdictQuery): Verdict[];
  reload(): Promise<Outcome<ReloadReport>>;
}

/** The text of `GET /metrics`. */
export interface MetricsPage {
  readonly contentType: string;
  render(): Promise<string>;
}
