import java.util.Arrays;
import java.util.BitSet;

/**
 * Watches how evenly acknowledgements come. The order "gap" has it tell for how many milliseconds the worst partition was
 * without one since it was last asked, and the order "through" has it tell when each partition has acknowledged a record
 * that was sent after the order.
 */
class Pulse {
    private long[] last = {};
    private long longest;
    private long orderedAt;
    private final BitSet missing = new BitSet();

    synchronized void watch(int partitions) {
        last = new long[partitions];
        Arrays.fill(last, System.nanoTime());
    }

    synchronized void acked(int partition, long sentAt) {
        long now = System.nanoTime();
        longest = Math.max(longest, now - last[partition]);
        last[partition] = now;
        if (sentAt - orderedAt > 0 && missing.get(partition)) {
            missing.clear(partition);
            if (missing.isEmpty()) {
                Main.say("through");
            }
        }
    }

    synchronized void order(String line) {
        long now = System.nanoTime();
        switch (line) {
            case "gap" -> {
                for (long at : last) {
                    longest = Math.max(longest, now - at);
                }
                Main.say("gap %d", longest / 1_000_000);
                longest = 0;
            }
            case "through" -> {
                orderedAt = now;
                missing.set(0, last.length);
            }
            default -> throw new IllegalArgumentException("no order " + line);
        }
    }
}
