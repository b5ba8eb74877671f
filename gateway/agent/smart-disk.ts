// What a disk says of its health, wherever it was read. What nobody measured is null, never 0: it must not look healthy.

export interface SmartAttribute {
  id: number;
  name: string;
  /** As smartctl prints them: `PO--CK`; P first for one that predicts failure. "" when unknown. */
  flags: string;
  raw: number;
  /** Normalised values; null for a simulated disk. */
  value: number | null;
  worst: number | null;
  threshold: number | null;
}

/** NVMe's health log, by the exporter's names of the fields. */
export interface NvmeHealth {
  criticalWarning: number | null;
  percentageUsed: number | null;
  availableSpare: number | null;
  availableSpareThreshold: number | null;
  mediaErrors: number | null;
  errorLogEntries: number | null;
}

export interface SmartDisk {
  /** Without /dev/. */
  device: string;
  /** ATA, NVMe, SCSI. */
  protocol: string;
  modelFamily: string;
  modelName: string;
  serialNumber: string;
  firmwareVersion: string;
  capacityBytes: number | null;
  rotationRate: number | null;
  smartStatusPassed: boolean | null;
  temperatureCelsius: number | null;
  powerOnSeconds: number | null;
  powerCycles: number | null;
  attributes: SmartAttribute[];
  nvme: NvmeHealth | null;
  grownDefects: number | null;
  readUncorrectedErrors: number | null;
  writeUncorrectedErrors: number | null;
  /** smartctl's exit status, a bit field: bits 0 to 2 mean that it could not question the disk, the others are findings. */
  exitStatus: number;
}
