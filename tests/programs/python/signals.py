"""Signals as Python sees them: handlers, timers, wake-up descriptors, waiting, interruption."""
import faulthandler, os, select, signal, threading, time

seen = []
signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
os.kill(os.getpid(), signal.SIGUSR1); print(seen == [signal.SIGUSR1])
signal.signal(signal.SIGALRM, lambda *_: seen.append("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
deadline = time.monotonic() + 20
while seen.count("alarm") < 3 and time.monotonic() < deadline: time.sleep(0.5)
signal.setitimer(signal.ITIMER_REAL, 0); print(seen.count("alarm") >= 3)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2}); os.kill(os.getpid(), signal.SIGUSR2)
print(signal.sigpending(), signal.sigwait({signal.SIGUSR2}))
print(signal.sigtimedwait({signal.SIGUSR2}, 0.02))
a, b = os.pipe(); os.set_blocking(b, False); signal.set_wakeup_fd(b)
signal.raise_signal(signal.SIGUSR1); print(select.select([a], [], [], 20)[0] == [a], os.read(a, 1)[0]); signal.set_wakeup_fd(-1)
def interrupt(): time.sleep(0.05); os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
class Stop(Exception): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop); signal.alarm(1)
try:
    select.select([a], [], [])
except Stop:
    print("stopped")
signal.signal(signal.SIGALRM, lambda *_: seen.append("again")); signal.setitimer(signal.ITIMER_REAL, 0.05)
start = time.monotonic(); time.sleep(0.3); print("again" in seen, time.monotonic() - start >= 0.3)
signal.signal(signal.SIGPIPE, signal.SIG_IGN); c, d = os.pipe(); os.close(c)
try: os.write(d, b"x")
except BrokenPipeError: print("broken pipe")
print(signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN, signal.strsignal(11))
faulthandler.register(signal.SIGUSR2, file=open(os.devnull, "w")); signal.pthread_sigmask(signal.SIG_SETMASK, [])
os.kill(os.getpid(), signal.SIGUSR2)
print("done")
