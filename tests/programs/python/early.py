# Data comes before its connection is accepted: it is there once, and poll(2) promises nothing more.
import select, socket, time
listener = socket.create_server(("", 8000))
print("listens", flush=True)
for _ in range(3):
    select.select([listener], [], [])
    time.sleep(0.3)
    connection, _ = listener.accept()
    read = connection.recv(65536)
    there = select.select([connection], [], [], 0.3)[0]
    connection.sendall(b"%d %s" % (len(read), b"more" if there else b"nothing more"))
    connection.close()
