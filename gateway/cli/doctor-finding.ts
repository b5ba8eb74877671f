// What `forestall doctor` finds: one thing it looked at, how it is, and what to do about it.

export type DoctorLevel = 'ok' | 'warning' | 'problem';

export interface DoctorFinding {
  level: DoctorLevel;
  /** What was looked at: `node a`, `volume vol0`, `data directory`. */
  subject: string;
  message: string;
  /** Null: nothing is to be done. */
  advice: string | null;
}

export function ok(subject: string, message: string): DoctorFinding {
  return { level: 'ok', subject, message, advice: null };
}

export function warning(subject: string, message: string, advice: string): DoctorFinding {
  return { level: 'warning', subject, message, advice };
}

export function problem(subject: string, message: string, advice: string): DoctorFinding {
  return { level: 'problem', subject, message, advice };
}
