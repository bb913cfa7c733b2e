// Files in every way, an http server with its clients, a Unix socket, timers, and compression.
const fs = require('fs');
const http = require('http');
const net = require('net');
const os = require('os');
const path = require('path');
const zlib = require('zlib');

async function files(directory) {
  const file = path.join(directory, 'file');
  fs.writeFileSync(file, 'content\n'.repeat(5000));
  await fs.promises.appendFile(file, 'end\n');
  console.log((await fs.promises.stat(file)).size, fs.readFileSync(file, 'utf8').slice(-4));
  fs.symlinkSync('file', path.join(directory, 'link'));
  fs.linkSync(file, path.join(directory, 'hard'));
  await fs.promises.copyFile(file, path.join(directory, 'copy'));
  fs.renameSync(file, path.join(directory, 'moved'));
  fs.truncateSync(path.join(directory, 'copy'), 7);
  console.log(fs.readdirSync(directory).sort(), fs.statSync(path.join(directory, 'hard')).nlink);
  const packed = zlib.gzipSync(fs.readFileSync(path.join(directory, 'moved')));
  console.log(zlib.gunzipSync(packed).length);
}

function requests() {
  return new Promise((resolve) => {
    const server = http.createServer((request, response) => {
      let body = 0;
      request.on('data', (chunk) => { body += chunk.length; });
      request.on('end', () => response.end(`${request.method} ${request.url} ${body}`));
    });
    server.listen(0, '127.0.0.1', async () => {
      const answers = [];
      for (let index = 0; index < 20; index++) {
        answers.push(new Promise((done) => {
          const options = { port: server.address().port, host: '127.0.0.1', method: 'POST', path: `/${index}` };
          const request = http.request(options, (response) => {
            let text = '';
            response.on('data', (chunk) => { text += chunk; });
            response.on('end', () => done(text));
          });
          request.end('x'.repeat(index * 10000));
        }));
      }
      console.log((await Promise.all(answers)).join('\n'));
      server.close(resolve);
    });
  });
}

function local(directory) {
  return new Promise((resolve) => {
    const name = path.join(directory, 'socket');
    const server = net.createServer((socket) => socket.pipe(socket));
    server.listen(name, () => {
      const client = net.connect(name, () => client.end('through a local socket'));
      client.on('data', (text) => console.log(text.toString()));
      client.on('close', () => server.close(resolve));
    });
  });
}

async function main() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'smoke-'));
  await files(directory);
  await requests();
  await local(directory);
  await new Promise((resolve) => setTimeout(resolve, 20));
  fs.rmSync(directory, { recursive: true });
  console.log(fs.existsSync(directory));
}

main();
