// Files, maps of them, locks, directories, and sockets that block and that are selected.
import java.io.*;
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.*;

public class Files {
    public static void main(String[] arguments) throws Exception {
        Path directory = java.nio.file.Files.createTempDirectory("smoke");
        Path file = directory.resolve("file");
        java.nio.file.Files.writeString(file, "line\n".repeat(10_000));
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            MappedByteBuffer map = channel.map(FileChannel.MapMode.READ_WRITE, 0, 4096);
            map.put(0, (byte) 'L');
            map.force();
            try (FileLock lock = channel.lock()) {
                System.out.println(lock.isValid() + " " + channel.size());
            }
            channel.truncate(5);
        }
        System.out.print(java.nio.file.Files.readString(file));
        java.nio.file.Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rw-r-----"));
        System.out.println(PosixFilePermissions.toString(java.nio.file.Files.getPosixFilePermissions(file)));
        java.nio.file.Files.createSymbolicLink(directory.resolve("link"), Path.of("file"));
        java.nio.file.Files.move(file, directory.resolve("moved"), StandardCopyOption.ATOMIC_MOVE);
        System.out.println(java.nio.file.Files.exists(directory.resolve("link")));
        List<String> names = new ArrayList<>();
        try (DirectoryStream<Path> entries = java.nio.file.Files.newDirectoryStream(directory)) {
            for (Path entry : entries) names.add(entry.getFileName().toString());
        }
        Collections.sort(names);
        System.out.println(names);
        for (String name : names) java.nio.file.Files.delete(directory.resolve(name));
        java.nio.file.Files.delete(directory);
        blocking();
        selected();
    }

    static void blocking() throws Exception {
        try (ServerSocket server = new ServerSocket(0, 5, InetAddress.getLoopbackAddress())) {
            Thread peer = new Thread(() -> {
                try (Socket socket = server.accept()) {
                    socket.getInputStream().transferTo(socket.getOutputStream());
                } catch (IOException error) {
                    System.out.println(error);
                }
            });
            peer.start();
            try (Socket socket = new Socket(server.getInetAddress(), server.getLocalPort())) {
                socket.getOutputStream().write("blocking\n".repeat(1000).getBytes());
                socket.shutdownOutput();
                System.out.println(socket.getInputStream().readAllBytes().length);
            }
            peer.join();
        }
    }

    static void selected() throws Exception {
        try (Selector selector = Selector.open(); ServerSocketChannel server = ServerSocketChannel.open()) {
            server.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0)).configureBlocking(false);
            server.register(selector, SelectionKey.OP_ACCEPT);
            SocketChannel client = SocketChannel.open(server.getLocalAddress());
            client.write(ByteBuffer.wrap("selected".getBytes(StandardCharsets.UTF_8)));
            client.shutdownOutput();
            ByteBuffer buffer = ByteBuffer.allocate(64);
            for (boolean open = true; open; ) {
                selector.select(10_000);
                for (SelectionKey key : selector.selectedKeys()) {
                    if (key.isAcceptable()) {
                        server.accept().configureBlocking(false).register(selector, SelectionKey.OP_READ);
                    } else if (((SocketChannel) key.channel()).read(buffer) < 0) {
                        open = false;
                    }
                }
                selector.selectedKeys().clear();
            }
            client.close();
            System.out.println(new String(buffer.array(), 0, buffer.position()));
        }
    }
}
