// Why a TLS connection did not come about, in words for the log and for `forestall nodes`: OpenSSL's own say what a
// function returned, these say what is wrong between the two programs.

/** By the code that Node.js gives. */
const SENTENCES: Record<string, string> = {
  ERR_SSL_WRONG_VERSION_NUMBER: 'what came is not TLS, or of another version than both sides allow',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'the two sides have no TLS version in common',
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: 'the other side does not take our TLS versions',
  ERR_SSL_NO_SHARED_CIPHER: 'the two sides have no cipher in common: one of them may want pre-shared keys and the other certificates',
  ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE: 'the other side refused: it may want a client certificate, or pre-shared keys',
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: 'the other side wants a client certificate',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'the other side does not trust the authority of our certificate',
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: 'the other side does not take our certificate',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: 'the other side does not take our certificate',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: 'our certificate has expired, says the other side',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_REVOKED: 'our certificate is revoked, says the other side',
  ERR_SSL_TLSV1_ALERT_DECRYPT_ERROR: 'the other side has another pre-shared key for our identity',
  ERR_SSL_SSLV3_ALERT_BAD_RECORD_MAC: 'the other side has another pre-shared key for our identity',
  ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC: 'the pre-shared keys differ',
  ERR_SSL_BINDER_DOES_NOT_VERIFY: 'the client has another pre-shared key for its identity',
  ERR_SSL_PSK_IDENTITY_NOT_FOUND: 'the client names an identity that has no pre-shared key here',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_PSK_IDENTITY: 'the other side has no pre-shared key for our identity',
  ERR_SSL_TLSV1_UNRECOGNIZED_NAME: 'the other side serves no such name',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is of an authority that is not trusted here',
  UNABLE_TO_GET_ISSUER_CERT: 'its certificate is of an authority that is not trusted here',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate is of an authority that is not trusted here',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is of an authority that is not trusted here',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is signed by itself and is not trusted here',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet: look at the clocks',
  CERT_REVOKED: 'its certificate is revoked',
  CERT_UNTRUSTED: 'its certificate is not trusted here',
  INVALID_PURPOSE: 'its certificate is made for another purpose (a client needs clientAuth, a server serverAuth)',
  UNABLE_TO_GET_CRL: 'there is no revocation list of its authority',
  CRL_HAS_EXPIRED: 'the revocation list of its authority has expired',
  ERR_TLS_SESSION_ATTACK: 'it wants to negotiate anew, which is not allowed',
  ERR_SSL_NO_RENEGOTIATION: 'it wants to negotiate anew, which is not allowed',
  ECONNRESET: 'the other side ended the TLS handshake without a word: it may not take our certificate or key, its own log says more',
};

interface OpenSslError extends Error {
  code?: string;
  reason?: string;
}

/** What a certificate's or connection's error code means; the code itself when it is a rare one. */
export function sayTlsCode(code: string): string {
  return SENTENCES[code] ?? code;
}

/** Is it a certificate that does not count? Those codes are OpenSSL's own. */
export function isOfCertificate(code: string): boolean {
  return !code.startsWith('E') && code in SENTENCES;
}

export function explainTlsFailure(error: Error): Error {
  const { code = '', reason, message } = error as OpenSslError;
  const said = SENTENCES[code] ?? (code.startsWith('ERR_SSL_') ? (reason ?? message) : message);
  return new Error(`TLS: ${said}`, { cause: error });
}
