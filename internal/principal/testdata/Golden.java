import java.io.BufferedReader;
import java.io.FileReader;
import java.util.HexFormat;
import javax.security.auth.x500.X500Principal;
import org.apache.kafka.common.security.ssl.SslPrincipalMapper;

/**
 * Writes what Java and Kafka make of the lines of a file, for principal_test.go:
 * "subject DER-IN-HEX" gives the subject as text, "rule TAB RULES TAB SUBJECT" what rules make of it.
 *
 * java -cp kafka-clients-4.3.1.jar:slf4j-api.jar Golden.java cases.txt > golden.txt
 */
public class Golden {
    public static void main(String[] args) throws Exception {
        try (BufferedReader in = new BufferedReader(new FileReader(args[0]))) {
            for (String line; (line = in.readLine()) != null; ) {
                if (line.startsWith("subject ")) {
                    System.out.println(quote(new X500Principal(HexFormat.of().parseHex(line.substring(8))).getName()));
                    continue;
                }
                String[] f = line.split("\t", -1);
                try {
                    System.out.println(quote(SslPrincipalMapper.fromRules(f[1]).getName(f[2])));
                } catch (IllegalArgumentException | IndexOutOfBoundsException e) {
                    System.out.println("invalid");
                } catch (java.io.IOException e) {
                    System.out.println("none");
                }
            }
        }
    }

    private static String quote(String s) {
        return "=" + s.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r");
    }
}
