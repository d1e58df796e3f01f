package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"text/tabwriter"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/config"
)

// generate writes the files of --generate-certs into the current directory and
// says what each is for.
func generate(f *flags, stdout io.Writer) error {
	wrong := f.errors
	suffix, err := config.CheckSuffix(f.cluster.SNISuffix)
	if err != nil {
		wrong.add("sni-suffix", err)
	}
	port := f.listener.AdvertisedPort
	if err := config.CheckBind(f.listener.Bind); err != nil {
		wrong.add("bind", err)
	} else if _, bindPort, _ := net.SplitHostPort(f.listener.Bind); port == 0 {
		port, _ = net.LookupPort("tcp", bindPort)
	}
	if len(wrong) > 0 {
		return wrong
	}

	files, err := certs.Generate(certs.GenerateOptions{Suffix: suffix, Port: port, Force: f.force})
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
	fmt.Fprintf(stdout, `
Next, in this directory:  kafka-sni-proxy --sni-suffix %s --upstream <host:port of your cluster>
With mTLS, add:           --mtls-enable --ca-certs ca.pem
Clients resolve *.%s to the proxy, and trust ca.pem (Java: use client.properties).
`, suffix, suffix)
	if !strings.Contains(suffix, ".") {
		fmt.Fprintf(stdout, "\nWarning: many clients do not accept a wildcard right below the root, as in *.%s.\nA suffix of two parts or more, like %s.internal, works everywhere.\n", suffix, suffix)
	}
	return nil
}
