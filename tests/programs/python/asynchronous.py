"""asyncio: timers, streams over the loopback interface and AF_UNIX, threads, signals, cancellation."""
import asyncio, os, signal, tempfile

async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper()); await writer.drain()
    writer.close()

async def ask(connect, number):
    reader, writer = await connect()
    writer.write(f"request {number}\n".encode()); await writer.drain()
    answer = await reader.readline(); writer.close()
    return answer

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    answers = await asyncio.gather(*(ask(lambda: asyncio.open_connection(*address), n) for n in range(100)))
    print(len(answers), answers[42])
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "socket")
        local = await asyncio.start_unix_server(echo, path)
        print(await ask(lambda: asyncio.open_unix_connection(path), 7)); local.close()
    loop, got = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, got.set)
    os.kill(os.getpid(), signal.SIGUSR1); await asyncio.wait_for(got.wait(), 20); print("signal")
    print(await asyncio.to_thread(sum, range(1000)))
    try:
        await asyncio.wait_for(asyncio.sleep(60), 0.02)
    except asyncio.TimeoutError:
        print("timeout")
    order = []
    async def later(delay, name):
        await asyncio.sleep(delay); order.append(name)
    await asyncio.gather(later(0.2, "c"), later(0.01, "a"), later(0.1, "b")); print(order)
    task = asyncio.create_task(asyncio.sleep(60)); await asyncio.sleep(0); task.cancel()
    try: await task
    except asyncio.CancelledError: print("cancelled")
    server.close()

asyncio.run(main())
print("done")
