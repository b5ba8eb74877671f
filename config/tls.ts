// What the configuration and NBD URIs say of TLS. Values only: paths of files and names; nothing is opened here, the
// files are read by gateway/tls. Relative paths are relative to the working directory.

/** How a client (we, before a storage node) speaks TLS. Null: not said. */
export interface ClientTls {
  /** A directory as libnbd and QEMU have it: ca-cert.pem and, for a client certificate, client-cert.pem and client-key.pem. */
  directory: string | null;
  /** The same as single files. Without an authority the ones that Node.js knows count. */
  authority: string | null;
  certificate: string | null;
  key: string | null;
  /** A file of `identity:hexkey` lines; the server is then known by the key, not by a certificate. */
  psk: string | null;
  /** Which line of it; null: its only one. */
  identity: string | null;
  /** The name that the server's certificate must hold; null: the host that is dialled, `localhost` for a Unix socket. */
  serverName: string | null;
  /** False: any certificate will do. */
  verifyPeer: boolean;
}

/** TLS of which nothing but itself is said. */
export const plainestTls: ClientTls = {
  directory: null,
  authority: null,
  certificate: null,
  key: null,
  psk: null,
  identity: null,
  serverName: null,
  verifyPeer: true,
};

/** How the server speaks TLS with hosts. */
export interface ServerTls {
  /** off: STARTTLS is refused. optional: clients may. required: nothing but STARTTLS is answered in plain. */
  mode: 'off' | 'optional' | 'required';
  /** Both or none; with neither there are pre-shared keys. */
  certificate: string | null;
  key: string | null;
  /** Whose clients' certificates count. */
  authority: string | null;
  /** required: of clients without a pre-shared key. */
  clientCertificates: 'none' | 'optional' | 'required';
  psk: string | null;
  minimum: '1.2' | '1.3';
}

export const serverTlsOff: ServerTls = {
  mode: 'off',
  certificate: null,
  key: null,
  authority: null,
  clientCertificates: 'none',
  psk: null,
  minimum: '1.2',
};
