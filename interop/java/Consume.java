import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * One member of a consumer group. It ends after the order "until N", once it
 * has seen N distinct records and has reached the end of its partitions; the
 * order "leave" ends it at once. Until it gets an order it pauses after each
 * poll, for as long as it is told to.
 */
class Consume {
    private static final long LEAVE = -1;

    static void run(Properties base, String topic, String group, long pauseMs) throws Exception {
        Properties properties = Main.with(base,
                "group.id", group,
                "auto.offset.reset", "earliest",
                "auto.commit.interval.ms", "1000");
        AtomicLong until = new AtomicLong(Long.MAX_VALUE);
        Main.onOrders(line -> {
            if (line != null) {
                until.set(line.equals("leave") ? LEAVE : Long.parseLong(line.substring("until ".length())));
            }
        });
        Tally tally = new Tally();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    Main.say("revoked %d", partitions.size());
                }

                @Override
                public void onPartitionsLost(Collection<TopicPartition> partitions) {
                    Main.say("lost %d", partitions.size());
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    Main.say("assigned %d", partitions.size());
                }
            });
            while (until.get() != LEAVE && (tally.distinct < until.get() || !atEnd(consumer))) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    tally.add(record.value());
                }
                if (until.get() == Long.MAX_VALUE) {
                    Thread.sleep(pauseMs);
                }
            }
            consumer.commitSync();
        }
        tally.done();
    }

    private static boolean atEnd(KafkaConsumer<String, String> consumer) {
        Set<TopicPartition> partitions = consumer.assignment();
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
        return partitions.stream().allMatch(partition -> consumer.position(partition) >= ends.get(partition));
    }
}
