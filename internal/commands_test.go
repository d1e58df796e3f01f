package internal

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pages are all Markdown files of the repository, README.md and docs/quickstart included.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "bin" || entry.Name() == "node_modules" || len(entry.Name()) > 2 && entry.Name()[0] == '.'):
			return fs.SkipDir
		case filepath.Ext(path) == ".md":
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// codeBlock is a fenced block, or a run of indented lines.
var codeBlock = regexp.MustCompile("(?ms)^```[^\n]*\n(.*?)^```|(?:^    [^\n]*\n)+")

// codeLines are the lines of a page's code, with lines that end with \ joined.
func codeLines(text string) []string {
	var lines []string
	for _, block := range codeBlock.FindAllString(text, -1) {
		block = strings.ReplaceAll(block, "\\\n", " ")
		lines = append(lines, strings.Split(block, "\n")...)
	}
	return lines
}

// inline is code within a line of text.
var inline = regexp.MustCompile("`([^`\n]+)`")

// commandLine is a start of the program, with what may stand before it: variables, sudo, a folder to go to.
var commandLine = regexp.MustCompile(`^\s*(?:[$#] )?(?:\(?cd \S+ && )?(?:[A-Z_]+=\S+ )*(?:sudo )?(?:[^\s=]*/)?kafka-sni-proxy( +(?:--?[a-z]|check|config|completion|healthcheck|status|routes|sessions|top|[A-Z]).*)?$`)

// split takes a command line apart as a shell would, as far as documents need it: quotes,
// and nothing behind a bar, an ampersand, a comment or a closing parenthesis.
func split(line string) []string {
	var words []string
	word, quote, within := "", rune(0), false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word += string(r)
		case r == '\'' || r == '"':
			quote, within = r, true
		case r == '|' || r == '&' || r == ')' || r == '>' || r == ';' || r == '#' && !within:
			if within {
				words = append(words, word)
			}
			return words
		case r == ' ' || r == '\t':
			if within {
				words = append(words, word)
			}
			word, within = "", false
		default:
			word, within = word+string(r), true
		}
	}
	if within {
		words = append(words, word)
	}
	return words
}

func program(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "kafka-sni-proxy")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "../cmd/kafka-sni-proxy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return binary
}

// Each command line of the program in the documents is one that it takes: it is asked what
// configuration the flags mean. What only some commands have is taken away before.
func TestCommandLinesInDocumentsParse(t *testing.T) {
	binary := program(t)
	ofCheck := ownFlagsOf(t, binary, "check", "--as-client")
	ofAsking := map[string]map[string]bool{}
	for _, command := range []string{"status", "routes", "sessions", "support-bundle", "top"} {
		ofAsking[command] = ownFlagsOf(t, binary, command, "--token-file")
	}
	ofAsking["passwd"] = ownFlagsOf(t, binary, "passwd", "--iterations")
	tried, asked := map[string]bool{}, 0
	for _, page := range pages(t) {
		for _, line := range codeLines(read(t, page)) {
			m := commandLine.FindStringSubmatch(line)
			if m == nil || strings.Contains(m[1], "…") || strings.Contains(line, "Environment") {
				continue
			}
			words := split(m[1])
			if known := ofAsking[first(words)]; known != nil {
				asked++
				for _, word := range words[1:] {
					if name, _, _ := strings.Cut(word, "="); strings.HasPrefix(name, "--") && name != "--help" {
						if _, ok := known[name]; !ok {
							t.Errorf("%s: %s: there is no %s", page, strings.TrimSpace(line), name)
						}
					}
				}
				continue
			}
			flags, ok := ownFlags(words, ofCheck)
			if !ok || tried[strings.Join(words, " ")] {
				continue
			}
			tried[strings.Join(words, " ")] = true
			command := exec.Command(binary, append([]string{"config", "from-flags"}, flags...)...)
			command.Env = []string{"PATH=" + os.Getenv("PATH")}
			if output, err := command.CombinedOutput(); err != nil {
				t.Errorf("%s: %s\n%v: %s", page, strings.TrimSpace(line), err, output)
			}
		}
	}
	if len(tried) < 10 || asked < 4 {
		t.Errorf("only %d command lines were tried, and %d that ask a proxy: the pattern is wrong", len(tried), asked)
	}
}

func first(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// ownFlagsOf are the flags that a command has for itself, and whether a value follows; one of
// them has to be there.
func ownFlagsOf(t *testing.T, binary, command, one string) map[string]bool {
	t.Helper()
	help, err := exec.Command(binary, command, "--help").Output()
	if err != nil {
		t.Fatalf("%s --help: %v", command, err)
	}
	flags := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ +(--[a-z-]+)( [a-z]\S*)? {2,}`).FindAllStringSubmatch(string(help), -1) {
		flags[m[1]] = m[2] != ""
	}
	if !flags[one] {
		t.Fatalf("the help of %s is not understood: %v", command, flags)
	}
	return flags
}

// ownFlags returns the flags of a command line that say a configuration, whole; false if it is
// about a file, or about none.
func ownFlags(words []string, ofCheck map[string]bool) ([]string, bool) {
	var flags []string
	suffix, upstream, check := false, false, false
	for i := 0; i < len(words); i++ {
		name, _, inOne := strings.Cut(words[i], "=")
		value, known := ofCheck[name]
		switch {
		case slices.Contains([]string{"config", "completion", "healthcheck", "--config", "--help", "--version", "--save-upstream-ca", "FLAGS"}, name):
			return nil, false
		case i == 0 && name == "check":
			if ofCheck == nil {
				return nil, false
			}
			check = true
		case check && known:
			if value && !inOne {
				i++
			}
		case name == "--generate-certs" || name == "--force":
		default:
			suffix = suffix || name == "--sni-suffix"
			upstream = upstream || name == "--upstream"
			flags = append(flags, words[i])
		}
	}
	if len(flags) == 0 && !check {
		return nil, false
	}
	if !suffix {
		flags = append(flags, "--sni-suffix", "kafka.example")
	}
	if !upstream {
		flags = append(flags, "--upstream", "192.0.2.1:9092")
	}
	return flags, true
}

// Flags and variables that documents name in a line of text exist.
func TestFlagsAndVariablesInDocumentsExist(t *testing.T) {
	known := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)`").FindAllStringSubmatch(read(t, "../docs/flags.md"), -1) {
		known[m[1]] = true
	}
	variables := 0
	for _, page := range pages(t) {
		if filepath.Base(page) == "CHANGELOG.md" {
			continue // it may speak of what is gone
		}
		for _, m := range regexp.MustCompile(`KAFKA_SNI_PROXY_([A-Z][A-Z_]*[A-Z])`).FindAllStringSubmatch(read(t, page), -1) {
			variables++
			if flag := strings.ReplaceAll(strings.ToLower(m[1]), "_", "-"); !known[flag] {
				t.Errorf("%s names %s, which is no flag's variable", page, m[0])
			}
		}
	}
	if variables < 2 || len(known) < 25 {
		t.Errorf("%d variables and %d flags were found: the pattern is wrong", variables, len(known))
	}
}

// Targets of make that documents name exist.
func TestTargetsOfMakeInDocumentsExist(t *testing.T) {
	makefile := read(t, "../Makefile")
	var targets []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):`).FindAllStringSubmatch(makefile, -1) {
		targets = append(targets, m[1])
	}
	named := 0
	for _, page := range pages(t) {
		text := read(t, page)
		places := codeLines(text)
		for _, m := range inline.FindAllStringSubmatch(text, -1) {
			places = append(places, m[1])
		}
		for _, place := range places {
			// What says what a target does is further to the right.
			m := regexp.MustCompile(`^\s*make((?: [a-z][a-z-]*)+)`).FindStringSubmatch(place)
			if m == nil {
				continue
			}
			for _, target := range strings.Fields(m[1]) {
				named++
				if !slices.Contains(targets, target) {
					t.Errorf("%s names make %s, and there is no such target", page, target)
				}
			}
		}
	}
	if named < 10 {
		t.Errorf("only %d targets are named: the pattern is wrong", named)
	}
}

// included is a block that is a file, told by a comment before it.
var included = regexp.MustCompile("(?s)<!-- file: ([^ ]+) -->\n```[a-z]*\n(.*?)```")

// What documents show of a file is the file.
func TestBlocksThatAreFilesAreTheFiles(t *testing.T) {
	shown := map[string]bool{}
	for _, page := range pages(t) {
		for _, m := range included.FindAllStringSubmatch(read(t, page), -1) {
			file := filepath.Join(filepath.Dir(page), m[1])
			shown[file] = true
			if read(t, file) != m[2] {
				t.Errorf("%s does not show %s as it is", page, m[1])
			}
		}
	}
	for _, pattern := range []string{"../docs/clients/*.*", "../docs/clients/*/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if !shown[file] {
				t.Errorf("no page shows %s", file)
			}
		}
	}
	if len(shown) < 9 {
		t.Errorf("only %d files are shown", len(shown))
	}
}

// properties reads the lines of a properties file that begin with a prefix, without it.
func properties(t *testing.T, file, prefix string) []string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(read(t, file)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok && !strings.HasPrefix(line, "#") && !strings.Contains(rest, "bootstrap") {
			lines = append(lines, rest)
		}
	}
	return lines
}

// Kafka Connect and Spring pass settings on to the Java client, which is tried. So theirs are
// the same, with what each of them wants before it.
func TestSettingsOfConnectAndSpringAreThoseOfJava(t *testing.T) {
	java := properties(t, "../docs/clients/java.properties", "")
	if len(java) < 5 {
		t.Fatalf("%d settings of Java", len(java))
	}
	for file, prefixes := range map[string][]string{
		"../docs/clients/connect.properties": {"producer.", "consumer.", "admin."},
		"../docs/clients/spring.properties":  {"spring.kafka.properties."},
	} {
		for _, prefix := range prefixes {
			if got := properties(t, file, prefix); !slices.Equal(got, java) {
				t.Errorf("%s, %s: %q, want %q", file, prefix, got, java)
			}
		}
	}
}

// figure is a number in a page with where it comes from, as in <!-- from cpu-per-gb / produce, 150 MB/s -->1.08.
var figure = regexp.MustCompile(`<!-- from ([^/]+) / ([^>]+?) -->([0-9.]+)`)

// Figures that a page takes from the benchmarks are those of the last run, rounded.
func TestFiguresInDocumentsAreMeasured(t *testing.T) {
	var results struct {
		Metrics []struct {
			Metric string
			Cases  []struct {
				Case string
				Ways map[string]struct{ Median float64 }
			}
		}
	}
	if err := json.Unmarshal([]byte(read(t, "../docs/benchmarks/results.json")), &results); err != nil {
		t.Fatal(err)
	}
	measured := map[string]float64{}
	for _, m := range results.Metrics {
		for _, c := range m.Cases {
			if ours, ok := c.Ways["ours"]; ok {
				measured[m.Metric+" / "+c.Case] = ours.Median
			}
		}
	}
	checked := 0
	for _, page := range pages(t) {
		for _, m := range figure.FindAllStringSubmatch(read(t, page), -1) {
			checked++
			want, ok := measured[m[1]+" / "+m[2]]
			if !ok {
				t.Errorf("%s: nothing was measured as %s / %s", page, m[1], m[2])
				continue
			}
			got, err := strconv.ParseFloat(m[3], 64)
			decimals := 0
			if _, fraction, found := strings.Cut(m[3], "."); found {
				decimals = len(fraction)
			}
			if rounded := fmt.Sprintf("%.*f", decimals, want); err != nil || math.Abs(got-want) > math.Pow(10, -float64(decimals))*0.51 {
				t.Errorf("%s says %s for %s / %s, which is %s", page, m[3], m[1], m[2], rounded)
			}
		}
	}
	if checked < 8 {
		t.Errorf("only %d figures were checked", checked)
	}
}
