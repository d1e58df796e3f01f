import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Three transactions of 1000 records: committed, aborted, committed together
 * with a consumer offset. Then the topic is read twice: a reader of committed
 * records sees two of them, any other reader sees all three.
 */
class Transact {
    static void run(Properties base, String topic, String group) throws Exception {
        Properties properties = Main.with(base, "transactional.id", "interop-" + group, "linger.ms", "5");
        TopicPartition offsetOf = new TopicPartition(topic, 0);
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
                KafkaConsumer<String, String> consumer = consumer(base, group, "read_committed")) {
            producer.initTransactions();
            producer.beginTransaction();
            send(producer, topic, "committed");
            producer.commitTransaction();
            producer.beginTransaction();
            send(producer, topic, "aborted");
            producer.abortTransaction();
            producer.beginTransaction();
            send(producer, topic, "with-offset");
            producer.sendOffsetsToTransaction(Map.of(offsetOf, new OffsetAndMetadata(42)), consumer.groupMetadata());
            producer.commitTransaction();
        }
        Tally committed = read(base, topic, group, "read_committed");
        Tally all = read(base, topic, group, "read_uncommitted");
        long offset;
        try (KafkaConsumer<String, String> consumer = consumer(base, group, "read_committed")) {
            offset = consumer.committed(Set.of(offsetOf)).get(offsetOf).offset();
        }
        Main.say("done committed=%d duplicates=%d uncommitted=%d offset=%d",
                committed.distinct, committed.records - committed.distinct, all.distinct, offset);
    }

    private static void send(KafkaProducer<String, String> producer, String topic, String tag) {
        for (int number = 0; number < 1000; number++) {
            producer.send(new ProducerRecord<>(topic, tag + number, tag + ":" + number + ":"));
        }
        producer.flush();
    }

    private static KafkaConsumer<String, String> consumer(Properties base, String group, String isolation) {
        Properties properties = Main.with(base, "group.id", group, "isolation.level", isolation, "enable.auto.commit", "false");
        return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    private static Tally read(Properties base, String topic, String group, String isolation) {
        Tally tally = new Tally();
        try (KafkaConsumer<String, String> consumer = consumer(base, group, isolation)) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                    .map((PartitionInfo info) -> new TopicPartition(info.topic(), info.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (!partitions.stream().allMatch(partition -> consumer.position(partition) >= ends.get(partition))) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    tally.add(record.value());
                }
            }
        }
        return tally;
    }
}
