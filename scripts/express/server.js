// Starts the Express application once for each port, every one in a process of
// its own:
//
//   node server.js 8000 8001 8002
//
// Port 0 takes a free one. Once a backend listens, one line says where:
// "Ready on 127.0.0.1:PORT", in the order of the arguments. Ctrl+C (SIGINT) or
// SIGTERM ends all with a tally and exit code 0. A port that cannot be taken
// ends all with exit code 1, bad arguments with 2.

import { fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const HOST = '127.0.0.1';
const DEFAULT_PORTS = ['8000', '8001', '8002'];
const MAX_PORTS = 16; // processes
const STOP_MS = 5_000; // milliseconds for a process to report its count and end

if (process.argv[2] === '--child') await child(Number(process.argv[3]));
else launch(process.argv.slice(2));

// child runs one backend. It tells the launcher { ready } or { error }, ends
// when told to stop, and also when the launcher is gone.
async function child(port) {
  let requests = () => 0;
  // tell sends a message; a launcher that is gone needs none.
  const tell = (message, then = () => {}) => process.send(message, then);
  process.on('SIGINT', () => {}); // a terminal sends Ctrl+C to every process; the launcher decides
  process.on('SIGTERM', () => {});
  process.on('message', () => tell({ requests: requests() }, () => process.exit(0)));
  process.on('disconnect', () => process.exit(0));

  const { createBackend } = await import('./app.js');
  const backend = createBackend();
  requests = backend.requests;
  backend.server.on('error', (err) => {
    tell({ error: err.code ?? String(err) }, () => process.exit(1));
  });
  backend.server.listen(port, HOST, () => tell({ ready: backend.server.address().port }));
}

// launch checks the ports, starts a process for each and waits for the end.
function launch(args) {
  const ports = args.length > 0 ? args : DEFAULT_PORTS;
  const wrong = ports.find((port) => !/^\d{1,5}$/.test(port) || Number(port) > 65535);
  const twice = ports.find((port, i) => port !== '0' && ports.indexOf(port) !== i);
  if (wrong !== undefined || twice !== undefined || ports.length > MAX_PORTS) {
    const what = wrong !== undefined ? `"${wrong}" is no port number from 0 to 65535`
      : twice !== undefined ? `port ${twice} is named twice` : `more than ${MAX_PORTS} ports`;
    console.error(`express: ${what}. Usage: node server.js [PORT ...], ` +
      `by default ${DEFAULT_PORTS.join(' ')}`);
    process.exitCode = 2;
    return;
  }
  try {
    createRequire(import.meta.url).resolve('express');
  } catch {
    console.error('express: its packages are not installed: run npm ci in this folder first');
    process.exitCode = 1;
    return;
  }
  const backends = ports.map((port) => ({ port, ready: false }));
  let stopping = false;

  const announce = () => {
    if (!backends.every((b) => b.ready) || stopping) return;
    for (const b of backends) console.log(`Ready on ${HOST}:${b.port}`);
  };
  // stop ends every process; the tally comes when the last one has ended.
  const stop = (code) => {
    if (stopping) return;
    stopping = true;
    process.exitCode = code;
    for (const b of backends) if (b.process.connected) b.process.send('stop', () => {});
    setTimeout(() => backends.forEach((b) => b.process.kill('SIGKILL')), STOP_MS).unref();
  };
  const ended = (b, code, signal) => {
    b.ended = true;
    if (b.requests === undefined && !process.exitCode) {
      console.error(`express: the backend on port ${b.port} has ended ` +
        `(${signal ?? `exit code ${code}`})`);
    }
    if (!backends.every((other) => other.ended)) return;
    if (!stopping) process.exitCode = 1;
    if (process.exitCode) return;
    for (const { port, requests } of backends) {
      const tally = requests === undefined ? 'ended before it could say how many requests it received'
        : `received ${requests} request${requests === 1 ? '' : 's'}`;
      console.log(`${HOST}:${port} ${tally}`);
    }
  };

  for (const b of backends) {
    b.process = fork(fileURLToPath(import.meta.url), ['--child', b.port]);
    b.process.on('message', (message) => {
      if (message.ready) {
        Object.assign(b, { port: message.ready, ready: true });
        announce();
      } else if (message.error) {
        if (!stopping) console.error(cure(b.port, message.error));
        stop(1);
      } else {
        b.requests = message.requests;
      }
    });
    // Close, not exit: then its last message has been read.
    b.process.on('close', (code, signal) => ended(b, code, signal));
  }
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => stop(0));
}

// cure words a start-up error.
function cure(port, code) {
  if (code === 'EADDRINUSE') {
    return `express: something already listens on ${HOST}:${port}, perhaps other backends ` +
      'in another terminal: end those, or choose other ports, for example node server.js 8100 8101 8102';
  }
  return `express: cannot listen on ${HOST}:${port} (${code}): choose another port, ` +
    'for example node server.js 8100 8101 8102';
}
