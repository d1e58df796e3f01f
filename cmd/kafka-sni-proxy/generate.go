package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/config"
)

// generate writes the files of --generate-certs into the current directory and
// says what each is for.
func generate(f *flags, stdout io.Writer) error {
	options, next, err := generateOptions(f)
	if err != nil {
		return err
	}
	options.Force = f.force
	files, err := certs.Generate(options)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: nothing was written; use another directory, or --force to replace all of them", err)
	}
	if err != nil {
		return fmt.Errorf("%w: nothing was changed", err)
	}

	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, file := range files {
		expires := ""
		if !file.NotAfter.IsZero() {
			expires = "expires " + file.NotAfter.UTC().Format("2006-01-02")
		}
		secret := ""
		if file.Secret {
			secret = "secret"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", file.Name, expires, secret, file.Purpose)
	}
	table.Flush()
	_, err = io.WriteString(stdout, next)
	return err
}

// generateOptions says what certificates are for, by flags or by a file, and what to do with
// them.
func generateOptions(f *flags) (o certs.GenerateOptions, next string, err error) {
	if f.configFile != "" {
		return generateForFile(f)
	}
	wrong := f.errors
	suffix, err := config.CheckSuffix(f.cluster.SNISuffix)
	if err != nil {
		wrong.add("sni-suffix", err)
	}
	port := f.listener.AdvertisedPort
	if err := config.CheckBind(f.listener.Bind); err != nil {
		wrong.add("bind", err)
	} else if port == 0 {
		port = portOfBind(f.listener.Bind)
	}
	if len(wrong) > 0 {
		return o, "", wrong
	}
	next = fmt.Sprintf(`
Next, in this directory:  kafka-sni-proxy --sni-suffix %s --upstream <host:port of your cluster>
With mTLS, add:           --mtls-enable --ca-certs ca.pem
Clients resolve *.%s to the proxy, and trust ca.pem (Java: use client.properties).
`, suffix, suffix)
	if !strings.Contains(suffix, ".") {
		next += fmt.Sprintf("\nWarning: many clients do not accept a wildcard right below the root, as in *.%s.\nA suffix of two parts or more, like %s.internal, works everywhere.\n", suffix, suffix)
	}
	return certs.GenerateOptions{Suffix: suffix, Port: port}, next, nil
}

// generateForFile makes one certificate for all names of a file.
func generateForFile(f *flags) (o certs.GenerateOptions, next string, err error) {
	c := f.configuration()
	if len(c.wrong) > 0 {
		return o, "", c.wrong
	}
	names, uncovered := c.config.CertificateNames()
	if len(names) == 0 {
		return o, "", usageErrors{fmt.Errorf("%s: no listener has TLS: there is nothing to make certificates for", f.configFile)}
	}
	first := c.config.Listeners[slices.IndexFunc(c.config.Listeners, func(l *config.Listener) bool { return !l.Plaintext })]
	host, port, _ := net.SplitHostPort(bootstrapOf(c.config, first, c.config.Served(first)[0]))
	o = certs.GenerateOptions{Names: names, Bootstrap: host}
	o.Port, _ = strconv.Atoi(port)
	next = fmt.Sprintf(`
In %s, name server.pem and server_key.pem as a listener's certificates: [{cert: server.pem, key: server_key.pem}]
With mTLS, add client-certificates: {require: true, ca-certs: ca.pem}
Clients trust ca.pem (Java: use client.properties).
`, f.configFile)
	if len(uncovered) > 0 {
		next += fmt.Sprintf("\nWarning: no certificate covers %s for all node ids: a wildcard stands for the first part of a name alone.\nPut {id} into the first part, as in b{id}-orders.kafka.example.\n", strings.Join(uncovered, ", "))
	}
	return o, next, nil
}

func portOfBind(bind string) int {
	_, port, _ := net.SplitHostPort(bind)
	n, _ := net.LookupPort("tcp", port)
	return n
}
