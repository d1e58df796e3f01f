package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"kafka-sni-proxy/internal/route"
)

// Stage is how far a connection to a broker came.
type Stage int

const (
	StageDial     Stage = iota // TCP, name look-up included
	StageTLS                   // the handshake, and what the certificate says
	StageIdentity              // whether the broker belongs to the cluster

	stages = iota
)

// Stages are all of them.
var Stages = [stages]Stage{StageDial, StageTLS, StageIdentity}

// ConnectError says why no broker could be reached, and at which stage. When several
// addresses were tried, Err joins their errors, and Stage is that of the last one.
type ConnectError struct {
	Stage Stage
	Err   error
}

func (e *ConnectError) Error() string { return e.Err.Error() }
func (e *ConnectError) Unwrap() error { return e.Err }

// join makes one error of those of several addresses.
func join(failures []error) error {
	if len(failures) == 1 {
		return failures[0]
	}
	var last *ConnectError
	errors.As(failures[len(failures)-1], &last)
	return &ConnectError{last.Stage, errors.Join(failures...)}
}

// LoopError is of a broker's address that leads back to the proxy, or to a copy of it.
type LoopError struct {
	Address   route.Address
	Plaintext bool // so there was no certificate to tell
}

func (e *LoopError) Error() string {
	if e.Plaintext {
		return fmt.Sprintf("%s is this proxy itself: it listens there", e.Address)
	}
	return fmt.Sprintf("%s is this proxy itself, or a copy of it: it shows this proxy's own certificate", e.Address)
}

// OtherClusterError is of a broker that does not belong to the cluster.
type OtherClusterError struct {
	Address   route.Address
	Got, Want string // cluster ids
}

func (e *OtherClusterError) Error() string {
	return fmt.Sprintf("broker %s belongs to another cluster: its cluster id is %q, not %q", e.Address, e.Got, e.Want)
}

func isOtherCluster(err error) bool { return errors.As(err, new(*OtherClusterError)) }

// maxNames is how many names of a certificate are told. It may have thousands.
const maxNames = 5

// certificateShown says whose certificate was refused, where the error itself
// does not.
func certificateShown(err error) string {
	var refused *tls.CertificateVerificationError
	if !errors.As(err, &refused) || len(refused.UnverifiedCertificates) == 0 {
		return ""
	}
	cert := refused.UnverifiedCertificates[0]
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	list := strings.Join(names[:min(len(names), maxNames)], ", ")
	if more := len(names) - maxNames; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	switch {
	case len(names) == 0:
		list = "no names"
	case errors.As(err, new(x509.HostnameError)):
		return ""
	}
	return fmt.Sprintf(" (its certificate %q is for %s, signed by %q)", cert.Subject.String(), list, cert.Issuer.String())
}
