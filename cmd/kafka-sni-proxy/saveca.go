package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/term"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/dial"
	"kafka-sni-proxy/internal/hosts"
	"kafka-sni-proxy/internal/preflight"
	"kafka-sni-proxy/internal/progress"
	"kafka-sni-proxy/internal/route"
)

// saveUpstreamCA is the name of the flag that takes a word beside it: the file to write.
const saveUpstreamCA = "save-upstream-ca"

// authoritySaver is a run of --save-upstream-ca: it shows what a broker shows of itself, and has
// the authority of that be saved, after somebody has looked at it.
type authoritySaver struct {
	broker  route.Address
	file    string
	yes     bool
	dialer  *dial.Dialer
	timeout time.Duration
	inFile  string // the configuration file, "": flags
	setting string // what names authorities there
	inTerms func(text string) string

	stdin          *os.File
	stdout, stderr io.Writer
}

// saveAuthority is all of --save-upstream-ca. words are the arguments that belong to no flag.
func saveAuthority(ctx context.Context, f *flags, words []string, stdin *os.File, stdout, stderr io.Writer) error {
	s := &authoritySaver{yes: f.yes, stdin: stdin, stdout: stdout, stderr: stderr}
	if wrong := s.read(f, words); len(wrong) > 0 {
		return wrong
	}
	return s.run(ctx)
}

// read takes what is needed from the flags, or from the file of --config.
func (s *authoritySaver) read(f *flags, words []string) usageErrors {
	wrong := f.errors
	if f.generateCerts || f.force {
		wrong = append(wrong, errors.New("--generate-certs, --force: do not go with --save-upstream-ca: leave them out"))
	}
	var err error
	if s.broker, err = route.ParseAddress(f.saveCA); err != nil {
		wrong.add(saveUpstreamCA, err)
	}
	switch {
	case len(words) != 1:
		wrong.add(saveUpstreamCA, fmt.Errorf("takes one FILE to write behind HOST:PORT, as in --save-upstream-ca broker1.internal:9093 brokers-ca.pem, not %q", words))
	case words[0] == "-" || words[0] == "":
		wrong.add(saveUpstreamCA, fmt.Errorf("%q is no FILE to write", words[0]))
	default:
		s.file = words[0]
		if info, err := os.Stat(filepath.Dir(s.file)); err != nil || !info.IsDir() {
			wrong.add(saveUpstreamCA, fmt.Errorf("there is no folder %s for the file: make it first", filepath.Dir(s.file)))
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	target, setting, wrong := f.targetOf(s.broker)
	if len(wrong) > 0 {
		return wrong
	}
	s.inFile, s.setting, s.timeout = f.configFile, setting, f.config.Timeouts.Dial
	s.inTerms = (&app{file: f.configFile}).inTerms
	s.dialer, err = newDialer(target)
	if err != nil {
		wrong = usageErrors{errors.New(s.inTerms("--hosts-file: " + err.Error()))}
	}
	return wrong
}

// targetOf returns where a broker belongs, and what names its authorities there. With a file,
// it is the target that has the address among its bootstrap servers, or else that of the only cluster.
func (f *flags) targetOf(broker route.Address) (*config.Target, string, usageErrors) {
	if f.configFile == "" {
		return &f.cluster.Target, "", nil
	}
	c := f.configuration()
	if len(c.wrong) > 0 {
		return nil, "", c.wrong
	}
	f.config = c.config
	const setting = "upstream-tls.ca-certs"
	var servers []string
	for _, name := range slices.Sorted(maps.Keys(c.config.Clusters)) {
		cl := c.config.Clusters[name]
		targets := map[string]*config.Target{config.ClusterPath(name, setting): &cl.Target}
		for target, t := range cl.Targets {
			targets[config.ClusterPath(name, "targets."+target+"."+setting)] = &t.Target
		}
		for _, path := range slices.Sorted(maps.Keys(targets)) {
			if slices.ContainsFunc(targets[path].Upstream, func(text string) bool {
				address, err := route.ParseAddress(text)
				return err == nil && address == broker
			}) {
				return targets[path], path, nil
			}
			servers = append(servers, targets[path].Upstream...)
		}
		if len(c.config.Clusters) == 1 {
			return cl.ActiveTarget(), config.TargetPath(name, cl, setting), nil
		}
	}
	return nil, "", usageErrors{fmt.Errorf("--save-upstream-ca: no cluster of %s has the bootstrap server %s, so how it is reached is not known: give one of %s", f.configFile, broker, strings.Join(servers, ", "))}
}

// newDialer returns a dialer that reaches the brokers of a target.
func newDialer(target *config.Target) (*dial.Dialer, error) {
	var table *hosts.Table
	var gate *dial.Gate
	var err error
	if target.HostsFile != "" {
		if table, err = readHosts(target.HostsFile); err != nil {
			return nil, err
		}
	}
	if target.Via != "" {
		if gate, err = dial.ParseGate(string(target.Via)); err != nil {
			return nil, err
		}
	}
	return dial.New(table, gate), nil
}

// run shows the certificates, asks, and writes the file.
func (s *authoritySaver) run(ctx context.Context) error {
	shown, err := s.look(ctx)
	if err != nil {
		return err
	}
	if err := shown.Write(s.stdout); err != nil {
		return err
	}
	ca := shown.Authority()
	if err := s.canBeTrusted(shown, ca); err != nil {
		return err
	}
	s.explain(shown, ca)
	held, err := certs.FindAuthority(s.file, ca)
	if errors.Is(err, fs.ErrExist) {
		return s.stop(err.Error(), "name another file, or move this one away if the brokers have another authority now. One file may hold several certificates, one after the other")
	}
	if err != nil {
		return err
	}
	if !held {
		if err := s.agree(shown.Number(ca)); err != nil {
			return err
		}
		if err := certs.SaveAuthority(s.file, ca); err != nil {
			return fmt.Errorf("--save-upstream-ca: writing %s: %w", s.file, err)
		}
		fmt.Fprintf(s.stdout, "\n%s is written.\n", s.file)
	} else {
		fmt.Fprintf(s.stdout, "\n%s holds number %d already: nothing was written.\n", s.file, shown.Number(ca))
	}
	return s.verify(shown)
}

// look has the broker show its certificates.
func (s *authoritySaver) look(ctx context.Context) (*preflight.Shown, error) {
	line := progress.New(s.stderr)
	defer line.Done()
	line.Set("connecting to " + s.broker.String())
	shown, err := preflight.Show(ctx, s.broker, s.dialer.Dial, s.timeout)
	if err != nil {
		return nil, s.stop(fmt.Sprintf("%s shows no certificate: %v", s.broker, err), noCertificateHint(err))
	}
	return shown, nil
}

// canBeTrusted finds what the proxy would not start with: no authority, or one that is out of time.
func (s *authoritySaver) canBeTrusted(shown *preflight.Shown, ca *x509.Certificate) error {
	if ca == nil {
		problem, remedy := shown.Missing()
		return s.stop("there is no certificate of an authority to save: "+problem, remedy)
	}
	if now := time.Now(); now.Before(ca.NotBefore) || now.After(ca.NotAfter) {
		return s.stop(fmt.Sprintf("number %d is not valid now, and the proxy would not take it", shown.Number(ca)),
			"have the cluster's owner renew it; if its dates are right, set this machine's clock")
	}
	return nil
}

// explain says what it would mean to trust the authority.
func (s *authoritySaver) explain(shown *preflight.Shown, ca *x509.Certificate) {
	n := shown.Number(ca)
	say := func(format string, args ...any) {
		fmt.Fprintf(s.stdout, "\n%s\n", preflight.Printable(s.inTerms(fmt.Sprintf(format, args...))))
	}
	switch {
	case n == 1:
		say("Number 1 can be saved. It is the broker's own, and no authority: brokers with other certificates need theirs, too.")
	case !shown.HasRoot():
		say("Number %d can be saved: the root above it was not sent. It is good for as long as it signs the brokers' certificates.\nTheir owner has the root, which is good for longer.", n)
	default:
		say("Number %d can be saved.", n)
	}
	if problem, remedy := shown.Verify(certs.Pool([]*x509.Certificate{ca})); problem != "" {
		say("Even with number %d the proxy would refuse this broker: %s\n  → %s", n, problem, remedy)
	} else {
		say("With number %d the proxy would take this broker: its name and its dates are right.", n)
	}
	if system, err := systemAuthorities(); err == nil {
		if problem, _ := shown.Verify(system); problem == "" {
			say("An authority that this system trusts has signed it already: the proxy takes this broker without --upstream-ca-certs, too.")
		}
	}
	if shown.WantsClient {
		say("The broker asks for a client certificate, too: see --upstream-cert and --upstream-key.")
	}
	say(`NOTHING HERE PROVES THAT THIS IS YOUR CLUSTER. Whoever is on the way to it can show certificates of their own, and could
then read and change everything. First compare the fingerprint of number %d with the one that the cluster's owner has:

    openssl x509 -noout -fingerprint -sha256 -in ca.crt
    keytool -list -v -keystore kafka.truststore.jks`, n)
}

// agree asks whether the certificate may be written. Only a terminal is asked.
func (s *authoritySaver) agree(number int) error {
	if s.yes {
		return nil
	}
	if !term.IsTerminal(s.stdin.Fd()) {
		return s.stop("there is no terminal to ask on", "compare the fingerprint, and then add --yes")
	}
	fmt.Fprintf(s.stderr, "\nIs the fingerprint the right one, and is number %d to be written to %s? [y/N] ", number, s.file)
	answer, err := bufio.NewReader(s.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was written")
}

// verify verifies what the broker has shown with the file, as the proxy will.
func (s *authoritySaver) verify(shown *preflight.Shown) error {
	pool, err := certs.LoadPool(s.file)
	if err != nil {
		return err
	}
	if problem, remedy := shown.Verify(pool); problem != "" {
		return withRemedy("with "+s.file+" the proxy would refuse this broker: "+problem, s.inTerms(remedy))
	}
	fmt.Fprintf(s.stdout, "With it the proxy takes %s: its certificate, name and dates are right.\n\nNext:  %s\n", s.broker, s.next())
	return nil
}

// next says how the file is used.
func (s *authoritySaver) next() string {
	if s.inFile == "" {
		return "kafka-sni-proxy … --upstream-ca-certs " + s.file
	}
	return fmt.Sprintf("in %s,  %s: %s", s.inFile, s.setting, s.file)
}

// stop is the error of a run that has written nothing.
func (s *authoritySaver) stop(problem, remedy string) error {
	return withRemedy("nothing was written: "+problem, s.inTerms(remedy))
}

// withRemedy is an error with what to do about it, both of which may have text that a peer has sent.
func withRemedy(problem, remedy string) error {
	text := preflight.Printable(problem)
	if remedy != "" {
		text += "\n  → " + preflight.Printable(remedy)
	}
	return errors.New(text)
}
