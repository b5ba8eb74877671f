// How the command line ends: its exit codes, and the one error that carries a sentence for the user and a code.

export const EXIT = {
  OK: 0,
  /** Refused, failed, or found wrong. */
  REFUSED: 1,
  /** The command was not understood. */
  USAGE: 2,
  /** Nobody answers at the API's address. */
  UNREACHABLE: 3,
  /** There is no such volume, node or mirror. */
  NOT_FOUND: 4,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export class CliError extends Error {
  constructor(
    readonly exitCode: ExitCode,
    message: string,
  ) {
    super(message);
  }
}

/** A sentence for what the system refused; `error.message` where it is one already. */
export function describeError(error: unknown): string {
  const { code, message, address, port } = error as NodeJS.ErrnoException & { address?: string; port?: number };
  switch (code) {
    case 'EADDRINUSE':
      return `The address ${address}:${port} is in use by another program. Stop it, or choose another port.`;
    case 'EADDRNOTAVAIL':
      return `This machine has no address ${address}. Choose one it has, or 0.0.0.0 for all.`;
    case 'EACCES':
      return port === undefined ? message : `This user may not use port ${port}. Choose one above 1023.`;
    default:
      return error instanceof Error ? message : String(error);
  }
}
