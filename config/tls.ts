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
