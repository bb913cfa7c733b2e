"""ssl: a handshake and an exchange over the loopback interface and in memory."""
import hashlib, os, socket, ssl, threading

server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_side.load_cert_chain("certificate.pem", "key.pem")
client_side = ssl.create_default_context(cafile="certificate.pem")

listener = socket.create_server(("127.0.0.1", 0))
def serve():
    for _ in range(5):
        raw, _ = listener.accept()
        with server_side.wrap_socket(raw, server_side=True) as connection:
            size = int.from_bytes(connection.recv(4), "big")
            body = b""
            while len(body) < size: body += connection.recv(65536)
            connection.sendall(hashlib.sha256(body).digest())
thread = threading.Thread(target=serve); thread.start()
for size in (0, 1, 1000, 100_000, 2_000_000):
    body = bytes(n * 7 % 256 for n in range(min(size, 1000))) * (size // min(size, 1000) if size else 0)
    with socket.create_connection(listener.getsockname()) as raw:
        with client_side.wrap_socket(raw, server_hostname="localhost") as connection:
            connection.sendall(len(body).to_bytes(4, "big") + body)
            print(size, connection.version(), connection.recv(32) == hashlib.sha256(body).digest())
thread.join()

try:
    ssl.create_default_context().load_verify_locations(cafile="certificate.pem")
    strict = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    strict.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
except ssl.SSLWantReadError:
    print("wants to read", outgoing.pending > 0)
print(len(ssl.RAND_bytes(32)), len(os.urandom(16)), ssl.HAS_TLSv1_3)
print(len(ssl.create_default_context().get_ca_certs()) >= 0)
print("done")
