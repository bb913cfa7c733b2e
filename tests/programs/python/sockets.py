"""Sockets as Python sees them: TCP, UDP, IPv6, AF_UNIX, select, options, errors, host names."""
import array, os, select, socket, sys, tempfile, threading

def stream(family, address):
    listener = socket.socket(family); listener.bind(address); listener.listen(8)
    client = socket.socket(family); client.connect(listener.getsockname())
    server, peer = listener.accept()
    def send(): server.sendall(b"x" * 3_000_000); server.shutdown(socket.SHUT_WR)
    sender = threading.Thread(target=send); sender.start()
    total = 0
    while data := client.recv(65536): total += len(data)
    sender.join()
    client.sendall(b"back"); print(family.name, total, server.recv(10), client.getpeername() == listener.getsockname())

stream(socket.AF_INET, ("127.0.0.1", 0)); stream(socket.AF_INET6, ("::1", 0))
with tempfile.TemporaryDirectory() as directory:
    stream(socket.AF_UNIX, os.path.join(directory, "s"))
one, two = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
one.bind(("127.0.0.1", 0)); two.sendto(b"datagram", one.getsockname())
data, source = one.recvfrom(100); one.sendto(b"answer", source); print(data, two.recvfrom(100)[0])
one.settimeout(0.05)
try: one.recv(10)
except socket.timeout: print("timed out")
closed = socket.socket(); closed.bind(("127.0.0.1", 0)); port = closed.getsockname()[1]; closed.close()
try: socket.create_connection(("127.0.0.1", port))
except ConnectionRefusedError: print("refused")
busy = socket.create_server(("127.0.0.1", 0))
try: socket.socket().bind(busy.getsockname())
except OSError as error: print(error.strerror)
left, right = socket.socketpair()
socket.send_fds(left, [b"here"], [sys.stdout.fileno()]); message, descriptors, _, _ = socket.recv_fds(right, 10, 4)
print(message, len(descriptors)); left.setblocking(False)
try: left.recv(1)
except BlockingIOError: print("would block")
print(select.select([right], [left], [], 0)[1] == [left])
poller = select.epoll(); poller.register(right, select.EPOLLIN); left.send(b"!"); print(poller.poll(20) == [(right.fileno(), select.EPOLLIN)])
option = socket.socket()
for level, name in ((socket.SOL_SOCKET, "SO_REUSEADDR"), (socket.SOL_SOCKET, "SO_KEEPALIVE"), (socket.IPPROTO_TCP, "TCP_NODELAY")):
    option.setsockopt(level, getattr(socket, name), 1); print(name, option.getsockopt(level, getattr(socket, name)))
print(option.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM, socket.gethostbyname("localhost"))
print(sorted({entry[4][0] for entry in socket.getaddrinfo("localhost", 80, socket.AF_INET)}), len(socket.gethostname()) > 0)
print(socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "::ffff:1.2.3.4")))
print("done")
