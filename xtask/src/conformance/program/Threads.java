// Threads, locks, a pool and a garbage collector that has work to do.
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicLong;

public class Threads {
    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(8);
        AtomicLong sum = new AtomicLong();
        List<Future<Long>> results = new ArrayList<>();
        for (int task = 0; task < 64; task++) {
            final int number = task;
            results.add(pool.submit(() -> {
                List<byte[]> kept = new ArrayList<>();
                long bytes = 0;
                for (int index = 0; index < 2000; index++) {
                    byte[] block = new byte[4096 + index % 512];
                    block[index % 4096] = (byte) number;
                    if (index % 50 == 0) kept.add(block);
                    bytes += block.length;
                }
                sum.addAndGet(kept.size());
                return bytes;
            }));
        }
        long bytes = 0;
        for (Future<Long> result : results) bytes += result.get();
        pool.shutdown();
        System.out.println(pool.awaitTermination(10, TimeUnit.SECONDS) + " " + bytes + " " + sum.get());
        CyclicBarrier barrier = new CyclicBarrier(4);
        ConcurrentHashMap<Integer, Integer> map = new ConcurrentHashMap<>();
        Thread[] threads = new Thread[4];
        for (int index = 0; index < threads.length; index++) {
            threads[index] = new Thread(() -> {
                try {
                    for (int round = 0; round < 1000; round++) {
                        barrier.await();
                        map.merge(round, 1, Integer::sum);
                    }
                } catch (Exception error) {
                    System.out.println(error);
                }
            });
            threads[index].start();
        }
        for (Thread thread : threads) thread.join();
        System.gc();
        System.out.println(map.size() + " " + map.values().stream().mapToInt(Integer::intValue).sum());
        Thread sleeper = new Thread(() -> {
            try {
                Thread.sleep(60_000);
            } catch (InterruptedException error) {
                System.out.println("interrupted");
            }
        });
        sleeper.start();
        sleeper.interrupt();
        sleeper.join();
    }
}
