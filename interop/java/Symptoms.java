import java.io.BufferedReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Connects with each of the settings files that it is given, at the same time, and prints a line
 * for each: the client id, a tab, and what it was told. The settings interop.work and
 * interop.topic say what to do. See interop/symptoms.go.
 */
public class Symptoms {
    public static void main(String[] files) throws Exception {
        List<Thread> all = new ArrayList<>();
        for (String file : files) {
            Thread thread = new Thread(() -> attempt(Path.of(file)));
            thread.start();
            all.add(thread);
        }
        for (Thread thread : all) {
            thread.join();
        }
        System.exit(0);
    }

    private static void attempt(Path file) {
        Properties properties = new Properties();
        String told;
        try (BufferedReader content = Files.newBufferedReader(file)) {
            properties.load(content);
            told = "it worked: " + switch (properties.getProperty("interop.work", "")) {
                case "twice" -> describe(properties, 2);
                case "produce" -> produce(properties, properties.getProperty("interop.topic"));
                case "consume" -> consume(properties, properties.getProperty("interop.topic"));
                default -> describe(properties, 1);
            };
        } catch (Exception e) {
            StringBuilder causes = new StringBuilder();
            for (Throwable t = e; t != null; t = t.getCause()) {
                causes.append(t).append("; ");
            }
            told = causes.toString();
        }
        Main.say("%s\t%s", properties.getProperty("client.id"), told.replaceAll("\\s+", " "));
    }

    private static Object describe(Properties properties, int times) throws Exception {
        try (Admin admin = Admin.create(properties)) {
            Object nodes = admin.describeCluster().nodes().get();
            for (int i = 1; i < times; i++) {
                Thread.sleep(3000); // for longer than connections may be idle
                nodes = admin.describeCluster().nodes().get();
            }
            return nodes;
        }
    }

    private static String produce(Properties properties, String topic) throws Exception {
        properties = Main.with(properties, "max.block.ms", "12000", "delivery.timeout.ms", "6000", "linger.ms", "0");
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<?>> all = new ArrayList<>();
            for (int partition = 0; partition < producer.partitionsFor(topic).size(); partition++) {
                all.add(producer.send(new ProducerRecord<>(topic, partition, null, new byte[1])));
            }
            for (Future<?> one : all) {
                one.get();
            }
            return all.size() + " records";
        }
    }

    /** Heartbeats are due every three seconds, and all times are a tenth of what is usual. */
    private static String consume(Properties properties, String topic) {
        properties = Main.with(properties, "group.id", "java-symptoms", "session.timeout.ms", "6000", "request.timeout.ms", "2500");
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            long end = System.nanoTime() + Duration.ofSeconds(60).toNanos();
            boolean joined = false;
            int records = 0;
            while (System.nanoTime() < end) {
                if (!joined && !consumer.assignment().isEmpty()) {
                    joined = true;
                    end = System.nanoTime() + Duration.ofSeconds(14).toNanos();
                }
                records += consumer.poll(Duration.ofMillis(500)).count();
            }
            return records + " records";
        }
    }
}
