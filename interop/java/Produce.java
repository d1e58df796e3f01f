import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * An idempotent producer that sends numbered records until it has sent them all or its standard input ends. Before that it
 * takes the orders of a {@link Pulse}.
 */
class Produce {
    static void run(Properties base, String topic, String tag, int perSecond, long count) throws Exception {
        Properties properties = Main.with(base,
                "acks", "all",
                "enable.idempotence", "true",
                "linger.ms", "5",
                "delivery.timeout.ms", "120000");
        AtomicBoolean stop = new AtomicBoolean();
        Pulse pulse = new Pulse();
        if (count == 0) {
            Main.onOrders(line -> {
                if (line == null) {
                    stop.set(true);
                } else {
                    pulse.order(line);
                }
            });
        }
        AtomicLong acked = new AtomicLong();
        AtomicLong failed = new AtomicLong();
        AtomicLong slowest = new AtomicLong();
        String padding = "x".repeat(100);
        long sent = 0;
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
            pulse.watch(producer.partitionsFor(topic).size());
            long start = System.nanoTime();
            while (!stop.get() && (count == 0 || sent < count)) {
                String value = tag + ":" + sent + ":" + padding;
                long sentAt = System.nanoTime();
                producer.send(new ProducerRecord<>(topic, tag + sent, value), (metadata, error) -> {
                    if (error != null) {
                        failed.incrementAndGet();
                        Main.say("failed %s", error);
                        return;
                    }
                    pulse.acked(metadata.partition(), sentAt);
                    slowest.accumulateAndGet((System.nanoTime() - sentAt) / 1_000_000, Math::max);
                    if (acked.incrementAndGet() % 500 == 0) {
                        Main.say("progress %d", acked.get());
                    }
                });
                sent++;
                long due = start + sent * 1_000_000_000L / perSecond;
                long early = (due - System.nanoTime()) / 1_000_000;
                if (early > 5) {
                    Thread.sleep(early);
                }
            }
            producer.flush();
        }
        Main.say("done sent=%d acked=%d failed=%d slowest-ack-ms=%d", sent, acked.get(), failed.get(), slowest.get());
    }
}
