// Whatever ends a request badly, as `{code, message, details}`: our own errors, Fastify's, and what Node could not even
// parse. A defect is logged with its stack and answered without one.
import type { FastifyError } from 'fastify';
import type { Log } from '../../replication/world.js';
import { ApiError } from './status.js';

/** An ApiError for `error`; what is nobody's fault but ours is logged and becomes `internal`. */
export function failureOf(error: unknown, bodyBytesMax: number, log: Log, url: string): ApiError {
  if (error instanceof ApiError) {
    return error;
  }
  const { code, statusCode, message, stack } = error as FastifyError;
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new ApiError('body-too-large', `The body is too large: at most ${bodyBytesMax} bytes are taken here.`, { bodyBytesMax });
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new ApiError('unsupported-media-type', 'The body must be JSON: send content-type: application/json.');
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new ApiError('invalid-request', 'The body is not as long as its content-length says.');
  }
  if (code === 'FST_ERR_BAD_URL') {
    return new ApiError('invalid-request', 'The path of the request is not validly percent-encoded.');
  }
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new ApiError('invalid-request', message.replace(/\.?$/, '.'));
  }
  log.error({ url, error: stack ?? String(error) }, 'A request failed because of a defect.');
  return new ApiError('internal', 'The gateway failed to answer this request; its log says why.');
}

/** The whole HTTP response to bytes that are no request, for the socket as it is. */
export function rawRefusal(error: NodeJS.ErrnoException): string {
  const tooLarge = error.code === 'HPE_HEADER_OVERFLOW';
  const late = error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
  const [status, code, message] = tooLarge
    ? ['431 Request Header Fields Too Large', 'header-too-large', 'The headers of the request are too large.']
    : late
      ? ['408 Request Timeout', 'request-timeout', 'The request did not arrive in time.']
      : ['400 Bad Request', 'invalid-request', 'This is no HTTP request.'];
  const body = JSON.stringify({ code, message, details: {} });
  return `HTTP/1.1 ${status}\r\ncontent-type: application/json; charset=utf-8\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}
