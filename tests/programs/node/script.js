// The standard library: files, timers, compression, cryptography, worker threads, WebAssembly.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto'), fs = require('fs'), path = require('path'), zlib = require('zlib');

if (!isMainThread) {
  let sum = 0;
  for (let i = 0; i < 2e6; i++) sum = (sum * 31 + i) % workerData;
  parentPort.postMessage(sum);
} else main().then(() => console.log('done'));

function inWorker(data) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: data });
    worker.on('message', resolve); worker.on('error', reject);
  });
}

async function main() {
  const root = process.argv[2];
  console.log(crypto.createHash('sha256').update('data').digest('hex'), crypto.randomBytes(8).length);
  console.log((await new Promise((r) => crypto.pbkdf2('p', 's', 20000, 16, 'sha256', (_, k) => r(k)))).toString('hex'));
  console.log(zlib.gunzipSync(zlib.gzipSync(Buffer.alloc(1e6, 'ab'))).length);
  await fs.promises.mkdir(path.join(root, 'd'), { recursive: true });
  await Promise.all([...Array(100).keys()].map((n) => fs.promises.writeFile(path.join(root, 'd', `f${n}`), 'x'.repeat(n))));
  let total = 0;
  for (const name of await fs.promises.readdir(path.join(root, 'd'))) total += (await fs.promises.stat(path.join(root, 'd', name))).size;
  console.log(total);
  await fs.promises.rm(path.join(root, 'd'), { recursive: true });
  console.log(await Promise.all([1009, 10007, 100003].map(inWorker)));
  const order = [];
  await Promise.all([300, 1, 1000].map((ms) => new Promise((r) => setTimeout(() => { order.push(ms); r(); }, ms))));
  console.log(order);
  const module = await WebAssembly.instantiate(Uint8Array.from([0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1,
    127, 3, 2, 1, 0, 7, 7, 1, 3, 97, 100, 100, 0, 0, 10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11]));
  console.log(module.instance.exports.add(20, 22));
  const keep = [];
  for (let i = 0; i < 300000; i++) { keep[i % 1000] = { i, s: `text ${i}` }; }
  console.log(keep.length, process.memoryUsage().rss > 1e6, process.argv0.length > 0);
  await new Promise((r) => {
    const late = setTimeout(r, 20000);
    process.once('SIGUSR2', () => { console.log('signal'); clearTimeout(late); r(); });
    process.kill(process.pid, 'SIGUSR2');
  });
  let sieve = new Uint8Array(2e6), primes = 0;
  for (let i = 2; i < 2e6; i++) { if (!sieve[i]) { primes++; for (let j = i * 2; j < 2e6; j += i) sieve[j] = 1; } }
  console.log(primes);
}
