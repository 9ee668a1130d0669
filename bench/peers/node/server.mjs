// A peer: Node's `ws` as one builds a broadcast with care. One process, a map from topics to sockets, and each message's
// frame made once for all of them.
//
//     node server.mjs FOLDER_OF_THE_PACKAGE_WS
//
// Speaks the benchmark's protocol on stdin and stdout, see bench/README.md.

import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

const { WebSocketServer, Sender } = createRequire(import.meta.url)(process.argv[2]);

const MARKER = 46;
const MAX_MESSAGES = 50_000_000;
const MAX_SECONDS = 600;
const topics = new Map();

const server = new WebSocketServer({
  host: '127.0.0.1', port: 0, path: '/ws', backlog: 4096, perMessageDeflate: false, clientTracking: false,
});

server.on('listening', () => say({ ready: true, port: server.address().port, pid: process.pid }));

server.on('connection', (socket, request) => {
  const asked = new URL(request.url, 'http://127.0.0.1').searchParams.getAll('topic');
  const names = asked.flatMap((list) => list.split(',')).filter((name) => name);
  for (const name of names) {
    if (!topics.has(name)) topics.set(name, new Set());
    topics.get(name).add(socket);
  }
  socket.on('close', () => names.forEach((name) => topics.get(name)?.delete(socket)));
  socket.on('error', () => {});
  socket.send('{"type":"welcome"}');
});

function publish(topic, payload) {
  const sockets = topics.get(topic);
  if (!sockets) return;
  const frame = Buffer.concat(
    Sender.frame(Buffer.from(payload), { fin: true, opcode: 1, mask: false, readOnly: false, rsv1: false }));
  // What `send` does for each socket, less making the frame.
  for (const socket of sockets) socket._socket?.write(frame);
}

const hex = (number, digits) => number.toString(16).padStart(digits, '0');
// The wall clock, finer than a millisecond.
const nowNs = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
const payload = (stream, seq, padding) => `#bench:${hex(stream, 4)}:${hex(seq, 16)}:${hex(nowNs(), 16)}#${padding}`;
const padding = (size) => 'x'.repeat(Math.max(0, size - MARKER));
const turn = () => new Promise((resolve) => { setImmediate(resolve); });
const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

const commands = {
  async burst({ topic, count, size, stream = 0 }) {
    const rest = padding(size);
    const all = Math.min(count, MAX_MESSAGES);
    for (let seq = 0; seq < all; seq += 1) {
      publish(topic, payload(stream, seq, rest));
      // Sockets that are full are written to between messages only.
      await turn();
    }
    return all;
  },
  async topics_burst({ topics: number, per_topic, size, stream = 0, stride = number }) {
    const rest = padding(size);
    for (let seq = 0; seq < per_topic; seq += 1) {
      for (let topic = 0; topic < number; topic += 1) {
        publish(`t${topic}`, payload(stream + Math.floor(topic / stride), seq, rest));
      }
      await turn();
    }
    return number * per_topic;
  },
  async steady({ topic, rate, seconds, size, stream = 0 }) {
    const rest = padding(size);
    const count = Math.floor(Math.min(seconds, MAX_SECONDS) * rate);
    const begun = performance.now();
    for (let seq = 0; seq < count; seq += 1) {
      const due = begun + (seq * 1000) / rate;
      if (due > performance.now()) await sleep(due - performance.now());
      publish(topic, payload(stream, seq, rest));
    }
    return count;
  },
};

function say(answer) {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

async function carryOut(line) {
  const command = JSON.parse(line);
  if (command.cmd === 'quit') process.exit(0);
  if (!Object.hasOwn(commands, command.cmd)) {
    say({ event: 'error', message: `no command ${command.cmd}` });
    return;
  }
  const begun = performance.now();
  const first = Number(nowNs());
  const count = await commands[command.cmd](command);
  say({ event: 'done', count, first_ns: first, publish_ns: Math.round((performance.now() - begun) * 1e6) });
}

for await (const line of createInterface({ input: process.stdin })) await carryOut(line);
process.exit(0);
