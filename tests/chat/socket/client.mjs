// A client of the socket without any library: opens it, says something, puts the answer together, prints it.
// node client.mjs URL TICKET CONVERSATION TEXT
import http from 'node:http';
import { createHash, randomBytes } from 'node:crypto';

const [url, ticket, conversation, text] = process.argv.slice(2);
const key = randomBytes(16).toString('base64');
const fail = (why) => { console.error(why); process.exit(1); };
setTimeout(() => fail('no answer in time'), 60000);

function frame(payload) {
  const data = Buffer.from(payload);
  const mask = randomBytes(4);
  const head = data.length < 126 ? Buffer.from([0x81, 0x80 | data.length]) : Buffer.from([0x81, 0xfe, data.length >> 8, data.length & 255]);
  return Buffer.concat([head, mask, data.map((byte, at) => byte ^ mask[at % 4])]);
}

function* frames(state) {
  for (;;) {
    const { buffer } = state;
    if (buffer.length < 2) return;
    let length = buffer[1] & 127;
    let at = 2;
    if (length === 126) { if (buffer.length < 4) return; length = buffer.readUInt16BE(2); at = 4; }
    else if (length === 127) { if (buffer.length < 10) return; length = Number(buffer.readBigUInt64BE(2)); at = 10; }
    if (buffer.length < at + length) return;
    state.buffer = buffer.subarray(at + length);
    yield { opcode: buffer[0] & 15, payload: buffer.subarray(at, at + length) };
  }
}

const request = http.request(`${url}/ws?ticket=${ticket}`, {
  headers: { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Key': key, 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Protocol': 'switchboard.v1' },
});
request.on('response', (response) => fail(`refused: ${response.statusCode}`));
request.on('error', (error) => fail(error.message));
request.on('upgrade', (response, socket, head) => {
  const wanted = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  if (response.headers['sec-websocket-accept'] !== wanted) fail('a wrong handshake');
  if (response.headers['sec-websocket-protocol'] !== 'switchboard.v1') fail('another protocol');
  const state = { buffer: head };
  const say = (what) => socket.write(frame(JSON.stringify(what)));
  let answer = [];
  let turn = null;
  const take = (told) => {
    if (told.type === 'welcome') say({ type: 'subscribe', id: 1, conversation: Number(conversation), cursor: '' });
    else if (told.type === 'subscribed') say({ type: 'send', id: 2, conversation: Number(conversation), client_id: 'node', text });
    else if (told.type === 'error' || told.type === 'bye') fail(JSON.stringify(told));
    else if (told.type === 'ok' && told.id === 2) turn = told.turn;
    else if (told.type === 'ping') say({ type: 'pong' });
    else if (told.type === 'reset') answer = [];
    else if (told.type === 'delta') {
      if (told.offset !== answer.length) fail(`a gap: ${told.offset} after ${answer.length}`);
      answer.push(...told.text);
    } else if (told.type === 'turn' && told.final) {
      if (told.length !== answer.length) fail(`${told.length} is not ${answer.length}`);
      console.log(answer.join(''));
      process.exit(0);
    }
  };
  const read = (data) => {
    state.buffer = Buffer.concat([state.buffer, data]);
    for (const { opcode, payload } of frames(state)) {
      if (opcode === 1) take(JSON.parse(payload.toString()));
      if (opcode === 8) fail(`closed: ${payload.length > 1 ? payload.readUInt16BE(0) : ''}`);
    }
  };
  socket.on('data', read);
  socket.on('close', () => fail('the socket was closed'));
  read(Buffer.alloc(0));
});
request.end();
