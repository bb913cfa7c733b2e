// What makes a virtual machine sweat: compiled loops, garbage, threads, null checks by fault, deep recursion.
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.*;

public class Work {
    static int depth;

    static void recurse() {
        depth++;
        recurse();
    }

    public static void main(String[] arguments) throws Exception {
        double sum = 0;
        for (int i = 1; i < 20_000_000; i++) sum += 1.0 / i;
        System.out.printf("%.6f%n", sum);

        List<Map<Integer, String>> keep = new ArrayList<>();
        for (int i = 0; i < 300; i++) {
            Map<Integer, String> map = new HashMap<>();
            for (int j = 0; j < 2000; j++) map.put(j, "value " + i * j);
            keep.add(map);
            if (keep.size() > 20) keep.remove(0);
        }
        System.gc();
        System.out.println(keep.size() + " " + keep.get(7).get(13));

        ExecutorService pool = Executors.newFixedThreadPool(16);
        AtomicLong total = new AtomicLong();
        List<Future<Long>> futures = new ArrayList<>();
        for (int i = 0; i < 500; i++) {
            long n = i;
            futures.add(pool.submit(() -> { Thread.sleep(1); total.addAndGet(n); return n * n; }));
        }
        long squares = 0;
        for (Future<Long> future : futures) squares += future.get();
        pool.shutdown();
        System.out.println(total + " " + squares + " " + pool.awaitTermination(20, TimeUnit.SECONDS));

        System.out.println(IntStream.range(0, 2_000_000).parallel().filter(n -> n % 7 == 3).asLongStream().sum());

        int caught = 0;
        for (int i = 0; i < 50_000; i++) {
            String nothing = i % 50 == 0 ? null : "x";
            try { caught += nothing.length() - 1; } catch (NullPointerException expected) { caught++; }
        }
        System.out.println("caught " + caught);

        try { recurse(); } catch (StackOverflowError expected) { System.out.println("overflow " + (depth > 1000)); }

        var file = Files.createTempFile("eyot", ".bin");
        Files.write(file, new byte[100_000]);
        try (var channel = java.nio.channels.FileChannel.open(file)) {
            var mapped = channel.map(java.nio.channels.FileChannel.MapMode.READ_ONLY, 0, channel.size());
            System.out.println(mapped.remaining() + " " + ByteBuffer.allocateDirect(1 << 20).capacity());
        }
        Files.delete(file);
        byte[] digest = MessageDigest.getInstance("SHA-256").digest("eyot".getBytes());
        System.out.println(HexFormat.of().formatHex(digest));
        System.out.println(Runtime.getRuntime().availableProcessors() > 0);
        System.out.println("done");
    }
}
