// Worker threads that share memory, wait for each other, and pass messages.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

if (isMainThread) {
  const shared = new SharedArrayBuffer(8);
  const counter = new Int32Array(shared);
  const workers = [0, 1, 2, 3].map((number) => new Worker(__filename, { workerData: { number, shared } }));
  const results = workers.map((worker) => new Promise((resolve, reject) => {
    worker.on('message', resolve);
    worker.on('error', reject);
  }));
  Atomics.store(counter, 1, 1);
  Atomics.notify(counter, 1);
  Promise.all(results).then((sums) => console.log(sums, Atomics.load(counter, 0)));
} else {
  const counter = new Int32Array(workerData.shared);
  Atomics.wait(counter, 1, 0);
  let kept = [];
  for (let index = 0; index < 100000; index++) {
    Atomics.add(counter, 0, 1);
    kept.push({ index });
    if (kept.length > 1000) kept = [];
  }
  parentPort.postMessage([workerData.number, kept.length]);
}
