import java.io.BufferedReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;

/**
 * Connects with each of the settings files that it is given, at the same time, and prints a line
 * for each: the client id, a tab, and what it was told. See interop/symptoms.go.
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
        StringBuilder told = new StringBuilder();
        try (BufferedReader content = Files.newBufferedReader(file)) {
            properties.load(content);
            try (Admin admin = Admin.create(properties)) {
                Object nodes = admin.describeCluster().nodes().get();
                told.append("it worked: ").append(nodes);
            }
        } catch (Exception e) {
            for (Throwable t = e; t != null; t = t.getCause()) {
                told.append(t).append("; ");
            }
        }
        Main.say("%s\t%s", properties.getProperty("client.id"), told.toString().replaceAll("\\s+", " "));
    }
}
