import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;

/**
 * The Java clients of the interop run, one subcommand each. A client tells the
 * run what happens in lines on its standard output ("ready", "progress 4000",
 * "done records=…"), takes orders on its standard input, and logs to a file.
 */
public class Main {
    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        try (BufferedReader file = Files.newBufferedReader(Path.of(args[1]))) {
            properties.load(file);
        }
        switch (args[0]) {
            case "produce" -> Produce.run(properties, args[2], args[3], Integer.parseInt(args[4]), Long.parseLong(args[5]));
            case "consume" -> Consume.run(properties, args[2], args[3], pause(args));
            case "share" -> ShareConsume.run(properties, args[2], args[3], pause(args));
            case "transact" -> Transact.run(properties, args[2], args[3]);
            case "admin" -> Administer.run(properties, args[2], args[3]);
            default -> throw new IllegalArgumentException("no subcommand " + args[0]);
        }
        // Clients are closed by now; a thread that still lives is not waited for.
        System.exit(0);
    }

    private static long pause(String[] args) {
        return args.length > 4 ? Long.parseLong(args[4]) : 0;
    }

    /** Prints one line for the run to read. */
    static synchronized void say(String format, Object... values) {
        System.out.println(String.format(format, values));
        System.out.flush();
    }

    /** Calls back with each line of standard input, and with null at its end. */
    static void onOrders(java.util.function.Consumer<String> take) {
        Thread reader = new Thread(() -> {
            try (BufferedReader in = new BufferedReader(new InputStreamReader(System.in))) {
                for (String line; (line = in.readLine()) != null; ) {
                    take.accept(line);
                }
            } catch (IOException e) {
                say("orders ended: %s", e);
            }
            take.accept(null);
        }, "orders");
        reader.setDaemon(true);
        reader.start();
    }

    static Properties with(Properties base, String... keysAndValues) {
        Properties merged = new Properties();
        merged.putAll(base);
        for (int i = 0; i < keysAndValues.length; i += 2) {
            merged.putIfAbsent(keysAndValues[i], keysAndValues[i + 1]);
        }
        return merged;
    }
}
