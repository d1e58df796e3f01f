package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"kafka-sni-proxy/internal/harness"
)

// python is what the librdkafka clients run on: an interpreter, the wheel that
// holds librdkafka, and the library that resolves names for it.
type python struct {
	interpreter string
	packages    string // folder
	names       string // shared library built from python/names.c
	client      string // python/client.py
}

const pythonMissing = "the librdkafka clients need Python 3 with pip and a C compiler (Debian: apt-get install python3 python3-pip gcc libc6-dev)"

// python fetches the wheel unless it is cached under the hash of what it was
// asked for, and builds the library.
func (s *software) python(ctx context.Context, dir string) (*python, error) {
	source := filepath.Join(s.root, "interop", "python")
	p := &python{client: filepath.Join(source, "client.py"), names: filepath.Join(dir, "names.so")}
	about, err := harness.Run(ctx, harness.Command{Name: "python-version", Dir: dir,
		Args: []string{"python3", "-c", "import sys; print(sys.executable); print(sys.version)"}})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pythonMissing, err)
	}
	p.interpreter, _, _ = strings.Cut(about, "\n")
	cc := []string{"cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", p.names, filepath.Join(source, "names.c"), "-ldl"}
	if _, err := harness.Run(ctx, harness.Command{Args: cc, Dir: dir}); err != nil {
		return nil, fmt.Errorf("%s: %w", pythonMissing, err)
	}
	p.packages, err = s.wheels(ctx, p, filepath.Join(source, "requirements.txt"), about, dir)
	return p, err
}

func (s *software) wheels(ctx context.Context, p *python, requirements, about, dir string) (string, error) {
	content, err := os.ReadFile(requirements)
	if err != nil {
		return "", err
	}
	// A wheel is built for one version of Python.
	return s.cached(ctx, "python", append(content, about...), "librdkafka from the Python package index", func(attempt int, folder string) error {
		pip := []string{p.interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
			"--only-binary=:all:", "--target", folder, "--requirement", requirements}
		_, err := harness.Run(ctx, harness.Command{Name: fmt.Sprintf("pip-%d", attempt), Args: pip, Dir: dir})
		if err != nil {
			err = fmt.Errorf("%s: %w", pythonMissing, err)
		}
		return err
	})
}

// startLibrdkafka starts one of the clients in python/client.py.
func (s *scenarioRun) startLibrdkafka(ctx context.Context, e *endpoint, settings []string, subcommand string, args ...string) (*process, error) {
	if s.python == nil {
		var err error
		if s.python, err = s.java.software.python(ctx, s.dir); err != nil {
			return nil, err
		}
	}
	p := s.python
	s.programs++
	name := fmt.Sprintf("%02d-librdkafka-%s", s.programs, subcommand)
	path := filepath.Join(s.dir, name+".properties")
	settings = append(e.librdkafka(), settings...)
	if err := os.WriteFile(path, []byte(strings.Join(settings, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	line := append([]string{"env", "LD_PRELOAD=" + p.names, "INTEROP_HOSTS=" + e.hosts, "PYTHONPATH=" + p.packages,
		p.interpreter, p.client, subcommand, path}, args...)
	return start(ctx, harness.Command{Name: name, Args: line, Dir: s.dir})
}

func (e *endpoint) isSASL() bool { return slices.Contains(e.settings, "security.protocol=SASL_SSL") }

// librdkafka returns the settings of an endpoint under librdkafka's names.
func (e *endpoint) librdkafka() []string {
	lines := []string{
		"client.id=librdkafka",
		"bootstrap.servers=" + e.bootstrap,
		"debug=protocol,metadata",
	}
	if e.isPlaintext() {
		return append(lines, plaintext...)
	}
	lines = append(lines, "ssl.ca.location="+e.ca, "ssl.endpoint.identification.algorithm=https")
	if !e.isSASL() {
		return append(lines, "security.protocol=SSL")
	}
	return append(lines, "security.protocol=SASL_SSL", "sasl.mechanism=PLAIN", "sasl.username="+saslUser, "sasl.password="+saslSecret)
}

// librdkafkaTrouble are lines of librdkafka's log about answers it could not
// read: it tries such a request again, and its caller never hears of it.
// What it calls "truncated response from broker (ok)" is none: a broker cuts the
// last batch of an answer at the size that the client asked for.
var librdkafkaTrouble = regexp.MustCompile(`PROTOERR|PROTOUFLOW|[Pp]arse failure|buffer underflow|a name it cannot know`)

// untroubled wants the logs of librdkafka clients to be free of such lines.
func untroubled(clients ...*process) error {
	var problems []error
	for _, p := range clients {
		err := eachLine(p.Output, func(line string) {
			if librdkafkaTrouble.MatchString(line) && !strings.Contains(line, "truncated response from broker (ok)") && len(problems) < 5 {
				problems = append(problems, fmt.Errorf("%s: %.400s", p.Name, line))
			}
		})
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// librdkafkaVerifies is the control of its TLS: under a name that is not in the
// certificate it has to refuse the proxy. (By default it did not look, once.)
func (s *scenarioRun) librdkafkaVerifies(ctx context.Context) error {
	const stranger = "bootstrap.stranger.test"
	first, _, _ := strings.Cut(s.tapped.bootstrap, ",")
	_, port, err := net.SplitHostPort(first)
	if err != nil {
		return err
	}
	e := *s.tapped
	e.bootstrap, e.hosts = net.JoinHostPort(stranger, port), filepath.Join(s.dir, "stranger-hosts")
	if err := writeHosts(e.hosts, []string{stranger}); err != nil {
		return err
	}
	p, err := s.startLibrdkafka(ctx, &e, nil, "consume", "none", "none", "0")
	if err != nil {
		return err
	}
	defer p.Kill()
	if _, err = p.expect("progress"); !strings.Contains(fmt.Sprint(err), "certificate verify failed") {
		return fmt.Errorf("librdkafka was to refuse a certificate for another name, got %w", err)
	}
	return nil
}
