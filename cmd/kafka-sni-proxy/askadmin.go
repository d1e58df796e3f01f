package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/config"
)

// adminFlags say where the admin port of a proxy is that runs: by what it was started with.
type adminFlags struct {
	*flags
	served config.Admin // what the file says of the port, once address has read it
}

func (f *adminFlags) define(fs *pflag.FlagSet) {
	fs.StringVar(&f.config.Admin.Bind, "admin-bind", "", "`address:port` of the proxy's admin port, as the proxy was given it")
	fs.StringVar(&f.configFile, "config", "", "the proxy's configuration `file`, for admin.bind in it; without --admin-bind")
}

// address is where the admin port is reached, or what is wrong. missing says what to give
// when nothing tells.
func (f *adminFlags) address(missing string) (string, usageErrors) {
	bind := f.config.Admin.Bind
	if f.configFile != "" && bind == "" {
		c := readConfiguration(f.configFile, nil)
		bind = c.config.Admin.Bind
		f.served = c.config.Admin
		if bind == "" && len(c.wrong) == 0 {
			return "", usageErrors{fmt.Errorf("%s has no admin.bind: the proxy has no admin port to ask", f.configFile)}
		}
		if len(c.wrong) > 0 {
			return "", c.wrong
		}
	}
	if bind == "" {
		if len(f.errors) > 0 { // one of them may be why
			return "", nil
		}
		return "", usageErrors{errors.New(missing)}
	}
	return reachable("admin-bind", bind)
}

// reachable makes the address that somebody listens on into one to connect to.
func reachable(flag, bind string) (string, usageErrors) {
	host, port, err := net.SplitHostPort(bind)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", usageErrors{fmt.Errorf("--%s: %q is not address:port, as in 127.0.0.1:9090", flag, bind)}
	}
	if addr, err := netip.ParseAddr(host); host == "" || err == nil && addr.IsUnspecified() {
		host = "localhost" // whichever family it listens on
	}
	return net.JoinHostPort(host, port), nil
}

// askFlags are what all commands have that ask a proxy how it is.
type askFlags struct {
	adminFlags
	admin     string
	tokenFile string
	caCerts   string
	pair      config.KeyPair
}

func (f *askFlags) define(fs *pflag.FlagSet) {
	fs.StringVar(&f.admin, "admin", "", "`host:port` of the admin port, or its address with http:// or https://; wins over --admin-bind and --config")
	f.adminFlags.define(fs)
	fs.StringVar(&f.tokenFile, "token-file", "", "`file` with the token that the admin port wants (default: admin.token-file of --config)")
	fs.StringVar(&f.caCerts, "ca-certs", "", "authorities of the admin port's certificate, PEM `file`; says that it speaks TLS (default, with https://: those of the system)")
	fs.StringVar(&f.pair.Cert, "cert", "", "client certificate to show to the admin port, PEM `file`; says that it speaks TLS")
	fs.StringVar(&f.pair.Key, "key", "", "its private key, PEM `file`")
}

// ownVariables are the variables that the commands have in common with the proxy. Others,
// such as KAFKA_SNI_PROXY_CERT, are the proxy's own, and mean something else there.
func ownVariables(environment []string) (own []string) {
	for _, assignment := range environment {
		name, _, _ := strings.Cut(assignment, "=")
		if name == environmentPrefix+"ADMIN_BIND" || name == environmentPrefix+"CONFIG" {
			own = append(own, assignment)
		}
	}
	return own
}

const askMissing = "--admin: is missing: say where the proxy's admin port is (its --admin-bind), or give its --config"

// client returns what asks the proxy. All that is wrong with the flags is in the error.
func (f *askFlags) client() (*api.Client, error) {
	c := &api.Client{}
	wrong := f.errors
	tlsConfig, err := f.tls()
	wrong = append(wrong, err...)
	base, baseErr := f.base(tlsConfig != nil)
	if f.tokenFile == "" {
		f.tokenFile = f.served.TokenFile
	}
	if f.tokenFile != "" {
		token, err := readToken(f.tokenFile)
		if err != nil {
			wrong = append(wrong, err)
		}
		c.Token = token
	}
	if wrong = append(wrong, baseErr...); len(wrong) > 0 {
		return nil, wrong
	}
	c.Base, c.HTTP = base, api.NewHTTP(tlsConfig)
	return c, nil
}

// base is the address with its scheme.
func (f *askFlags) base(speaksTLS bool) (string, usageErrors) {
	scheme := "http"
	if speaksTLS {
		scheme = "https"
	}
	if f.admin == "" {
		address, wrong := f.address(askMissing)
		if f.served.Cert != "" {
			scheme = "https"
		}
		return scheme + "://" + address, wrong
	}
	address := f.admin
	if strings.Contains(f.admin, "://") {
		u, err := url.Parse(f.admin)
		switch {
		case err != nil, u.Scheme != "http" && u.Scheme != "https", strings.Trim(u.Path, "/") != "", u.RawQuery != "", u.User != nil:
			return "", usageErrors{fmt.Errorf("--admin: %q is neither host:port nor http://host:port nor https://host:port", f.admin)}
		case u.Scheme == "http" && speaksTLS:
			return "", usageErrors{errors.New("--admin: begins with http://, and --ca-certs or --cert say that the admin port speaks TLS: leave one of them out")}
		}
		address, scheme = u.Host, u.Scheme
	}
	address, wrong := reachable("admin", address)
	return scheme + "://" + address, wrong
}

// tls is how to speak TLS; nil if no flag says so, other than https://.
func (f *askFlags) tls() (c *tls.Config, wrong usageErrors) {
	if f.caCerts == "" && f.pair.Cert == "" && f.pair.Key == "" {
		return nil, nil
	}
	c = &tls.Config{}
	var err error
	if f.caCerts != "" {
		if c.RootCAs, err = certs.LoadPool(f.caCerts); err != nil {
			wrong = append(wrong, fmt.Errorf("--ca-certs: %w", err))
		}
	}
	switch {
	case (f.pair.Cert == "") != (f.pair.Key == ""):
		wrong = append(wrong, errors.New("--cert, --key: go together: give both"))
	case f.pair.Cert != "":
		pair, err := certs.LoadKeyPair(f.pair.Cert, f.pair.Key)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("--cert, --key: %w", err))
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, wrong
}

// readToken reads the file of --token-file: one line. An error does not have the path, which
// by mistake may be the token itself.
func readToken(path string) (string, error) {
	data, err := readFile(path)
	if err != nil {
		var inPath *os.PathError
		if errors.As(err, &inPath) {
			err = inPath.Err
		}
		return "", fmt.Errorf("--token-file: the file cannot be read: %w: it takes the name of a file that holds the token", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("--token-file: the file does not hold a token on one line")
	}
	return token, nil
}

// explain adds to an error what to do about it, in terms of flags.
func explain(c *api.Client, err error) error {
	remedy := ""
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, api.ErrUnreachable):
		remedy = "see that the proxy runs, with this admin port (--admin-bind)"
	case errors.Is(err, api.ErrNotAdmin):
		remedy = "give the proxy's --admin-bind, which is not the port of its clients"
	case errors.Is(err, api.ErrUnauthorized) && c.Token == "":
		remedy = "give it with --token-file"
	case errors.Is(err, api.ErrUnauthorized):
		remedy = "the one in --token-file is not the one that the proxy was given"
	case errors.Is(err, api.ErrSpeaksTLS):
		remedy = "give --ca-certs, or --admin https://" + strings.TrimPrefix(c.Base, "http://")
	case errors.Is(err, api.ErrTLS):
		remedy = "see --ca-certs, --cert and --key, or leave them out when the admin port does not speak TLS"
	default:
		return fmt.Errorf("%s: %w", c.Base, err)
	}
	return fmt.Errorf("%s: %w: %s", c.Base, err, remedy)
}
