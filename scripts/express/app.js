// The endpoints of the demo backends (internal/backends), as an Express 5
// application. Paths, parameters, bounds and bodies are the same.

import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import express from 'express';
import { WebSocketServer } from 'ws';

const MAX_BYTES = 16 * 2 ** 30; // bytes of /bytes and /drop: 16 GiB
const MAX_WAIT_MS = 60_000; // milliseconds of /slow, and between events of /stream
const MAX_EVENTS = 1_000_000; // events of /stream
const MAX_MESSAGE = 2 ** 20; // bytes of one WebSocket message: 1 MiB
const MESSAGE_WAIT_MS = 10 * 60_000; // milliseconds for the next WebSocket message
const DROP_MISSING = 1000; // bytes that /drop announces but never sends
const KEEP_ALIVE_MS = 5_000; // milliseconds for an idle connection: Node's default
const STALL_MS = 5 * 60_000; // milliseconds for a body that stands still, either way

// Content is made of 16-byte lines: 15 digits and a newline.
const GROUP_LINES = 1_000; // lines that differ in their last three digits only
const BLOCK_GROUPS = 4; // groups made and written at a time

// LAST are the ends of a group's lines: "000\n" to "999\n".
const LAST = Array.from({ length: GROUP_LINES }, (_, i) => `${String(i).padStart(3, '0')}\n`);

// The page is the demo backends' own.
const page = fs.readFileSync(new URL('../../internal/backends/page.html', import.meta.url), 'utf8');

// BadRequest is an error whose message tells the client what is wrong with its request.
class BadRequest extends Error {
  status = 400;
}

// createBackend returns { server, requests }: an HTTP server that does not
// listen yet, and a function that says how many requests it has received.
export function createBackend() {
  let requests = 0; // of any kind
  let dataRequests = 0; // for /api/data
  const backend = () => String(server.address()?.port ?? '');

  const app = express();
  app.disable('etag');
  app.enable('case sensitive routing');
  app.enable('strict routing');

  app.use((req, res, next) => {
    requests++;
    res.set('X-Backend', backend());
    next();
  });
  app.all('/', (req, res) => {
    res.type('html').send(page.replaceAll('{{backend}}', backend()));
  });
  app.all('/api/data', (req, res) => {
    json(res, { backend: backend(), request: ++dataRequests, path: '/api/data' });
  });
  app.all('/slow', async (req, res) => {
    const ms = number(req, 'ms', 1000, 0, MAX_WAIT_MS);
    await sleep(ms, undefined, { signal: gone(res) });
    json(res, { backend: backend(), waited_ms: ms });
  });
  app.all('/bytes', async (req, res) => {
    const n = number(req, 'n', 1024, 0, MAX_BYTES);
    const chunked = number(req, 'chunked', 0, 0, 1);
    res.type('application/octet-stream');
    if (!chunked) res.set('Content-Length', String(n));
    if (req.method === 'HEAD') return res.end();
    res.flushHeaders();
    await pipeline(Readable.from(content(n)), res);
  });
  app.all('/echo', echo);
  app.all('/status/:code', (req, res) => status(req, res, backend()));
  app.all('/stream', (req, res) => stream(req, res, backend()));
  app.all('/ws', (req, res) => {
    res.set({ Connection: 'Upgrade', Upgrade: 'websocket' });
    text(res, 426, '/ws speaks WebSocket only.');
  });
  app.all('/drop', drop);
  app.use((req, res) => {
    text(res, 404, `Backend ${backend()} has nothing at ${visible(req.path)}; ` +
      '/ lists what it has.');
  });
  // Express takes a function with four parameters for its error handler.
  app.use((err, req, res, _next) => {
    if (res.headersSent || !(err.status >= 400 && err.status < 500)) {
      res.socket?.destroy(); // a broken response must not look complete
    } else {
      text(res, 400, visible(err.message));
    }
  });

  const server = http.createServer(app);
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.timeout = STALL_MS;
  const webSockets = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE });
  server.on('upgrade', (req, socket, head) => {
    if (req.headers.upgrade.toLowerCase() !== 'websocket' || req.url.split('?')[0] !== '/ws') {
      // Any other upgrade is declined by answering as if it had not been
      // offered (RFC 9110 section 7.8). Node has handed over the bare socket.
      const res = new http.ServerResponse(req);
      res.shouldKeepAlive = false;
      res.assignSocket(socket);
      socket.on('error', () => {});
      res.on('finish', () => socket.end());
      app(req, res);
      return;
    }
    requests++;
    webSockets.handleUpgrade(req, socket, head, echoMessages);
  });
  return { server, requests: () => requests };
}

// echo sends the request back while it is still arriving: request line and
// fields as they came, an empty line, the body; then the trailers as trailers.
async function echo(req, res) {
  let head = `${visible(req.method)} ${visible(req.originalUrl)} HTTP/${req.httpVersion}\r\n`;
  for (let i = 0; i < req.rawHeaders.length; i += 2) {
    head += `${visible(req.rawHeaders[i])}: ${visible(req.rawHeaders[i + 1])}\r\n`;
  }
  head += '\r\n';
  res.set({ 'Content-Type': 'text/plain; charset=utf-8', 'X-Content-Type-Options': 'nosniff' });
  if (!req.headers['transfer-encoding']) {
    res.set('Content-Length', String(head.length + Number(req.headers['content-length'] ?? 0)));
  } else if (req.headers.trailer) {
    res.set('Trailer', req.headers.trailer);
  }
  res.write(head);
  await pipeline(req, res, { end: false });
  if (req.headers.trailer) res.addTrailers(req.trailers);
  res.end();
}

// status answers with the code in the path; 1xx come before a 200 (RFC 9110 section 15.2).
function status(req, res, backend) {
  const code = /^[1-5]\d\d$/.test(req.params.code) ? Number(req.params.code) : 0;
  const informational = {
    100: () => res.writeContinue(),
    102: () => res.writeProcessing(),
    103: () => res.writeEarlyHints({ link: '</>; rel=preload; as=document' }),
  };
  if (code < 200 && !(code in informational)) {
    throw new BadRequest(`${visible(req.params.code)} is no status that can be sent here: ` +
      'give 200 to 599, or 100, 102 or 103 (Node knows no other 1xx, and 101 belongs to /ws).');
  }
  if (code < 200) {
    if (req.httpVersion !== '1.0') informational[code](); // HTTP/1.0 does not know 1xx
    text(res, 200, `Backend ${backend} sent ${title(code)} before this 200.`);
    return;
  }
  if ([301, 302, 303, 307, 308].includes(code)) res.set('Location', '/');
  if (code === 401) res.set('WWW-Authenticate', 'Demo'); // a scheme browsers ask no password for
  if (code === 405) res.set('Allow', 'GET');
  if (code === 407) res.set('Proxy-Authenticate', 'Demo');
  if (code === 205) res.set('Content-Length', '0');
  if ([204, 205, 304].includes(code)) {
    res.status(code).end(); // these have no body
    return;
  }
  text(res, code, `Backend ${backend} answers ${title(code)}.`);
}

// title is a status code with its name, if it has one: "404 Not Found".
function title(code) {
  return `${code} ${http.STATUS_CODES[code] ?? ''}`.trim();
}

// stream sends server-sent events, the first at once.
async function stream(req, res, backend) {
  const n = number(req, 'n', 86_400, 1, MAX_EVENTS);
  const ms = number(req, 'ms', 1000, 0, MAX_WAIT_MS);
  res.set({ 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  if (req.method === 'HEAD') return res.end();
  const signal = gone(res);
  for (let i = 1; i <= n; i++) {
    if (i > 1) await sleep(ms, undefined, { signal });
    if (!res.write(`id: ${i}\ndata: ${JSON.stringify({ backend, event: i })}\n\n`)) {
      await once(res, 'drain', { signal });
    }
  }
  res.end();
}

// echoMessages sends every message back until the peer leaves or says nothing
// for MESSAGE_WAIT_MS; ws itself closes on a message longer than MAX_MESSAGE.
function echoMessages(socket) {
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => socket.terminate(), MESSAGE_WAIT_MS);
  };
  wait();
  socket.on('message', (data, isBinary) => {
    wait();
    // The next message is read when this one is out: a peer that does not
    // read its echoes is not read from either.
    socket.pause();
    socket.send(data, { binary: isBinary }, () => socket.resume());
  });
  socket.on('close', () => clearTimeout(timer));
  socket.on('error', () => {}); // 'close' follows
}

// drop announces more than it sends; with reset=1 the connection ends in a RST.
async function drop(req, res) {
  const after = number(req, 'after', 0, 0, MAX_BYTES);
  const reset = number(req, 'reset', 0, 0, 1);
  res.type('application/octet-stream').set('Content-Length', String(after + DROP_MISSING));
  res.flushHeaders();
  await pipeline(Readable.from(content(after)), res, { end: false });
  await new Promise((resolve) => res.write('', resolve)); // all before it is out
  if (reset) res.socket?.resetAndDestroy();
  else res.socket?.destroy();
}

// content yields the first n bytes of numbered 16-byte lines, block by block.
function* content(n) {
  for (let group = 0; n > 0;) {
    let block = '';
    for (let i = 0; i < BLOCK_GROUPS && block.length < n; i++, group++) {
      const first = String(group).padStart(12, '0'); // the digits a group's lines share
      block += first + LAST.join(first);
    }
    yield Buffer.from(block.slice(0, n), 'latin1');
    n -= Math.min(n, block.length);
  }
}

// gone returns a signal that is aborted when the client has left.
function gone(res) {
  const controller = new AbortController();
  res.on('close', () => controller.abort());
  return controller.signal;
}

// number reads a query parameter as a whole number from low to high.
function number(req, name, byDefault, low, high) {
  if (!Object.hasOwn(req.query, name)) return byDefault;
  const given = [req.query[name]].flat()[0];
  const n = /^[+-]?\d{1,15}$/.test(given) ? Number(given) : NaN;
  if (!(n >= low && n <= high)) {
    throw new BadRequest(`The parameter ${name} must be a whole number from ${low} to ${high}, ` +
      `not "${visible(given)}".`);
  }
  return n;
}

function json(res, value) {
  res.type('json').send(`${JSON.stringify(value)}\n`);
}

function text(res, code, line) {
  res.status(code).type('text/plain').set('X-Content-Type-Options', 'nosniff').send(`${line}\n`);
}

// visible replaces everything that is not printable ASCII by \xNN, so that no
// client's bytes can command a terminal.
function visible(s) {
  return s.replace(/[^\x20-\x7e]/g, (c) =>
    [...Buffer.from(c, c > '\xff' ? 'utf8' : 'latin1')]
      .map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join(''));
}
