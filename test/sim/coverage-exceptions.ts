// What no seed is expected to reach, and why. All else that no seed reached is a finding.

export interface Exception {
  file: string;
  /** Part of what is awaited, or of `STATE -> STATE`. */
  what: string;
  /** reach: it is never reached. crash: it is, but no crash meets it. */
  kind: 'reach' | 'crash';
  reason: string;
}

export const EXCEPTIONS: readonly Exception[] = [];
