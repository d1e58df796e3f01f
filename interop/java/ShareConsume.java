import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * One member of a share group that acknowledges each record by itself. It ends
 * after the order "until N" once it has seen N distinct records; before that it
 * pauses after each poll, for as long as it is told to.
 */
class ShareConsume {
    static void run(Properties base, String topic, String group, long pauseMs) throws Exception {
        // A share group starts at the end of its topics unless its own configuration says otherwise.
        try (Admin admin = Admin.create(base)) {
            ConfigResource resource = new ConfigResource(ConfigResource.Type.GROUP, group);
            Collection<AlterConfigOp> fromStart = List.of(new AlterConfigOp(
                    new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET));
            admin.incrementalAlterConfigs(Map.of(resource, fromStart)).all().get();
        }
        Properties properties = Main.with(base, "group.id", group, "share.acknowledgement.mode", "explicit");
        AtomicLong until = new AtomicLong(Long.MAX_VALUE);
        Main.onOrders(line -> {
            if (line != null) {
                until.set(Long.parseLong(line.substring("until ".length())));
            }
        });
        Tally tally = new Tally();
        try (KafkaShareConsumer<String, String> consumer = new KafkaShareConsumer<>(properties, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            Main.say("ready");
            while (tally.distinct < until.get()) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                for (ConsumerRecord<String, String> record : records) {
                    tally.add(record.value());
                    consumer.acknowledge(record, AcknowledgeType.ACCEPT);
                }
                consumer.commitSync().forEach((partition, error) -> error.ifPresent(e -> Main.say("not acknowledged %s: %s", partition, e)));
                if (until.get() == Long.MAX_VALUE) {
                    Thread.sleep(pauseMs);
                }
            }
        }
        tally.done();
    }
}
