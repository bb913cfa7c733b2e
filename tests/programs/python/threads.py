"""Threads: pools, queues, conditions, barriers, timeouts, thread-local data, deep stacks."""
import concurrent.futures, hashlib, queue, threading, time

with concurrent.futures.ThreadPoolExecutor(16) as pool:
    digests = list(pool.map(lambda n: hashlib.sha256(b"x" * n * 1000).hexdigest()[:8], range(200)))
print(hashlib.sha256("".join(digests).encode()).hexdigest())

jobs, results = queue.Queue(10), queue.Queue()
def work():
    while (job := jobs.get()) is not None:
        results.put(job * job)
workers = [threading.Thread(target=work) for _ in range(8)]
for worker in workers: worker.start()
for job in range(1000): jobs.put(job)
for _ in workers: jobs.put(None)
for worker in workers: worker.join()
print(sum(results.get() for _ in range(1000)))

turn, order, condition = 0, [], threading.Condition()
def player(me):
    global turn
    for _ in range(100):
        with condition:
            condition.wait_for(lambda: turn % 4 == me)
            order.append(me); turn += 1; condition.notify_all()
players = [threading.Thread(target=player, args=(n,)) for n in range(4)]
for one in players: one.start()
for one in players: one.join()
print(order == [0, 1, 2, 3] * 100)

barrier, local, seen = threading.Barrier(10), threading.local(), []
def meet(n):
    local.value = n; barrier.wait(); seen.append(local.value)
meeting = [threading.Thread(target=meet, args=(n,)) for n in range(10)]
for one in meeting: one.start()
for one in meeting: one.join()
print(sorted(seen))

event = threading.Event()
print(event.wait(0.05), threading.Lock().acquire(timeout=0.1), queue.Queue().empty())
held = threading.Lock(); held.acquire(); print(held.acquire(timeout=0.05))
threading.Timer(0.02, event.set).start(); print(event.wait(20))
semaphore, inside, most = threading.Semaphore(3), 0, 0
def enter():
    global inside, most
    with semaphore:
        inside += 1; most = max(most, inside); time.sleep(0.002); inside -= 1
crowd = [threading.Thread(target=enter) for _ in range(30)]
for one in crowd: one.start()
for one in crowd: one.join()
print(0 < most <= 3)

def recurse(n): return 0 if n == 0 else 1 + recurse(n - 1)
threading.stack_size(16 << 20)
deep = []; thread = threading.Thread(target=lambda: deep.append(recurse(800))); thread.start(); thread.join(); print(deep)
threading.stack_size(0)
for _ in range(300):
    thread = threading.Thread(target=lambda: None); thread.start(); thread.join()
print(threading.active_count())

# Threads that are sent to a processor before they have run.
import os

processors = sorted(os.sched_getaffinity(0))
for turn in range(100):
    reads, writes = os.pipe()
    came = []
    thread = threading.Thread(target=lambda: came.append((os.read(reads, 1), os.sched_getaffinity(0))))
    thread.start()
    processor = processors[turn % len(processors)]
    os.sched_setaffinity(thread.native_id, {processor})
    os.write(writes, b"x")
    thread.join()
    assert came == [(b"x", {processor})], came
    os.close(reads)
    os.close(writes)
print("pinned")

print("done")
