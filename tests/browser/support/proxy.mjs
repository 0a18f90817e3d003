// What stands between a phone and the server in real halls: a proxy that lets no WebSocket through, a network that is gone for the
// API alone, a connection that breaks right after a vote was sent. Real sockets; nothing is made up.

import http from 'node:http';
import net from 'node:net';

export class Proxy {
  /** Between `proxy.base` and the server. */
  static async start(server) {
    const proxy = new Proxy();
    Object.assign(proxy, { upgrades: 0, refused: 0, paths: [], blockUpgrades: false, blockApi: false, cutAfterVote: 0, lostAcks: 0, sockets: new Set() });
    const front = http.createServer((request, response) => proxy.#forward(server, request, response));
    front.on('upgrade', (request, socket, head) => proxy.#upgrade(server, request, socket, head));
    front.on('connection', (socket) => {
      proxy.sockets.add(socket);
      socket.on('close', () => proxy.sockets.delete(socket)).on('error', () => {});
    });
    await new Promise((done) => { front.listen(0, '127.0.0.1', done); });
    proxy.front = front;
    proxy.base = `http://127.0.0.1:${front.address().port}`;
    return proxy;
  }

  #forward(server, request, response) {
    this.paths.push(request.url);
    if (this.blockApi && request.url.startsWith('/v1/')) return request.socket.destroy();
    const [host, port] = server.listen.split(':');
    const onward = http.request({ host, port, path: request.url, method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
      answer.on('error', () => response.destroy());
    });
    onward.on('error', () => request.socket.destroy());
    response.on('close', () => onward.destroy());
    return request.pipe(onward);
  }

  #upgrade(server, request, socket, head) {
    this.paths.push(request.url);
    if (this.blockUpgrades || this.blockApi) {
      this.refused += 1;
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
      return;
    }
    this.upgrades += 1;
    const [host, port] = server.listen.split(':');
    const back = net.connect(Number(port), host, () => {
      const headers = request.rawHeaders.map((text, at) => (at % 2 ? `${text}\r\n` : `${text}: `)).join('');
      back.write(`${request.method} ${request.url} HTTP/1.1\r\n${headers}\r\n`);
      back.write(head);
      socket.on('data', (bytes) => this.#onward(bytes, back, socket));
      back.pipe(socket);
    });
    const end = () => {
      if (!socket.cut) back.destroy();
      socket.destroy();
    };
    for (const one of [back, socket]) one.on('error', end).on('close', end);
  }

  /** Client frames are masked, but the first is the hello, and of the others a vote is longer than a ping. */
  #onward(bytes, back, socket) {
    const afterHello = socket.said;
    socket.said = true;
    back.write(bytes);
    if (this.cutAfterVote === 0 || !afterHello || bytes.length < 60) return;
    // The server gets the vote, stores it and answers; the answer is lost, and the phone hears nothing any more.
    this.cutAfterVote -= 1;
    socket.cut = true;
    back.unpipe(socket);
    back.on('data', (answer) => {
      if (!answer.includes('"ack"')) return;
      this.lostAcks += 1;
      back.destroy();
    });
    back.resume(); // unpipe() has paused it
    socket.destroy();
  }

  /** All that is open breaks off. */
  cut() { for (const socket of this.sockets) socket.destroy(); }

  async stop() {
    this.cut();
    await new Promise((done) => { this.front.close(done); });
  }
}
