// A peer: one poll over WebSocket with `ws` and `pg` in the usual style, one process. The same work as axum-poll.
'use strict';
const http = require('node:http');
const { randomUUID } = require('node:crypto');
const { WebSocketServer } = require('ws');
const { Pool } = require('pg');

const pool = new Pool({ connectionString: process.env.DATABASE_URL });
const counts = [0, 0, 0, 0];
const server = http.createServer();
const sockets = new WebSocketServer({ server, path: '/v1/ws', perMessageDeflate: false });

function broadcast(text) {
  for (const client of sockets.clients) client.send(text);
}

async function vote(socket, message) {
  const done = await pool.query({
    name: 'vote',
    text: 'INSERT INTO peer_votes (id, poll, participant, choice) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING',
    values: [message.id, message.poll, socket.participant, message.choice],
  });
  socket.send(JSON.stringify({ type: 'ack', id: message.id }));
  if (done.rowCount === 1) {
    counts[message.choice] += 1;
    broadcast(JSON.stringify({ type: 'results', counts }));
  }
}

sockets.on('connection', (socket) => {
  socket.participant = randomUUID();
  socket.on('message', (data) => {
    const message = JSON.parse(data);
    if (message.type === 'publish') broadcast(message.text);
    else vote(socket, message).catch(() => socket.close());
  });
});

pool
  .query(
    'CREATE TABLE IF NOT EXISTS peer_votes (id uuid NOT NULL, poll int NOT NULL, participant uuid NOT NULL, ' +
      'choice int NOT NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (poll, participant))',
  )
  .then(() => server.listen(0, '127.0.0.1', 511, () => {
    const { address, port } = server.address();
    console.log(`${address}:${port}`);
  }));
