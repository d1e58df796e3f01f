import java.util.BitSet;
import java.util.Map;
import java.util.TreeMap;

/**
 * Counts what a consumer was given. A record's value is "tag:number:padding";
 * each producer has its tag and numbers its records from 0, so a repeated
 * record is told from a new one.
 */
class Tally {
    private final Map<String, BitSet> seen = new TreeMap<>();
    long records;
    long distinct;
    private long said;

    void add(String value) {
        int first = value.indexOf(':');
        int second = value.indexOf(':', first + 1);
        BitSet numbers = seen.computeIfAbsent(value.substring(0, first), tag -> new BitSet());
        int number = Integer.parseInt(value.substring(first + 1, second));
        records++;
        if (!numbers.get(number)) {
            numbers.set(number);
            distinct++;
        }
        if (distinct - said >= 500) {
            said = distinct;
            Main.say("progress %d", distinct);
        }
    }

    void done() {
        Main.say("done records=%d distinct=%d duplicates=%d", records, distinct, records - distinct);
    }
}
