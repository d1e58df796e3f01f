package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/hosts"
)

// part is the files that belong together, such as a certificate and its key.
type part struct {
	flags   string   // that name the files
	files   []string // none: nothing to read
	seen    stamps   // of the files as they were last read
	problem string   // with them as they were last read, "": none
}

// stale reports whether the files are not what was last read, or have to be read
// again because that failed: the reason may have been elsewhere, such as no
// file descriptor left.
func (p *part) stale() bool { return p.problem != "" || !stampsOf(p.files).equal(p.seen) }

// source is what a part says, and can be read again while the program runs. The
// zero value is for flags that were not given.
type source[T any] struct {
	part
	read  func() (T, error)
	same  func(a, b T) bool
	about func(T) []any    // for the log
	doubt func(T) []string // what is likely to be wrong, but can be meant
	value T
}

// first reads the files when the program starts.
func (s *source[T]) first() (err error) {
	s.seen = stampsOf(s.files)
	s.value, err = s.read()
	return err
}

// doubts returns the warnings that there are about the value.
func (s *source[T]) doubts() []string {
	if s.doubt == nil {
		return nil
	}
	return s.doubt(s.value)
}

// outcome is what came of reading files once more.
type outcome int

const (
	unchanged outcome = iota
	changed
	unusable
	early // a certificate and a key do not match, because one of them may be yet to come
)

// refresh reads the files once more, and when they say something new puts that
// to use. When they cannot be used the value stays. That is logged once, or
// whenever somebody has asked.
func (s *source[T]) refresh(log *slog.Logger, why wakeup, use func()) outcome {
	if len(s.files) == 0 {
		return unchanged
	}
	s.seen = stampsOf(s.files) // before they are read: what comes later is not missed
	value, err := s.read()
	var half *certs.MismatchError
	if why == touched && errors.As(err, &half) {
		log.Debug("a certificate and its key do not match, perhaps not yet; looking again", "flag", s.flags)
		return early
	}
	if err != nil {
		problem := strings.ReplaceAll(err.Error(), "\n", "; ")
		if why == asked || problem != s.problem {
			log.Error("a changed file cannot be used: what was loaded before stays in use until it is put right", "flag", s.flags, "error", problem)
		}
		s.problem = problem
		return unusable
	}
	recovered := s.problem != ""
	s.problem = ""
	if s.same(s.value, value) {
		if recovered {
			log.Info("a file is again as it was loaded", "flag", s.flags)
		}
		return unchanged
	}
	s.value = value
	use()
	log.Info("reloaded", append([]any{"flag", s.flags}, s.about(value)...)...)
	for _, doubt := range s.doubts() {
		log.Warn(doubt)
	}
	return changed
}

// material is all that is read from files and may change.
type material struct {
	server   source[tls.Certificate] // shown to clients
	clients  source[clientTrust]     // with mTLS
	upstream source[tls.Certificate] // shown to brokers
	brokers  source[*x509.CertPool]  // authorities of theirs; nil without the flag
	hosts    source[*hosts.Table]

	trustBrokers bool // whatever certificate they show
}

func (m *material) parts() []*part {
	return []*part{&m.server.part, &m.clients.part, &m.upstream.part, &m.brokers.part, &m.hosts.part}
}

// clientTrust says which clients' certificates are taken.
type clientTrust struct {
	authorities []*x509.Certificate
	pool        *x509.CertPool
	revoked     *certs.Revoked // nil: no list
}

func loadClientTrust(caFile, crlFile string) (clientTrust, error) {
	authorities, err := certs.LoadAuthorities(caFile)
	if err != nil {
		return clientTrust{}, err
	}
	trust := clientTrust{authorities: authorities, pool: certs.Pool(authorities)}
	if crlFile != "" {
		trust.revoked, err = certs.LoadRevoked(crlFile, authorities)
	}
	return trust, err
}

func sameTrust(a, b clientTrust) bool {
	return a.pool.Equal(b.pool) && a.revoked.Equal(b.revoked)
}

func aboutTrust(t clientTrust) []any {
	var names []string
	for _, authority := range t.authorities {
		names = append(names, authority.Subject.String())
	}
	about := []any{"authorities", strings.Join(names, "; ")}
	if t.revoked != nil {
		about = append(about, "revoked", t.revoked.Len(), "next-update", t.revoked.NextUpdate.UTC().Format(time.RFC3339))
	}
	return about
}

func sameCertificate(a, b tls.Certificate) bool {
	if len(a.Certificate) != len(b.Certificate) {
		return false
	}
	for i := range a.Certificate {
		if !bytes.Equal(a.Certificate[i], b.Certificate[i]) {
			return false
		}
	}
	return true
}

func aboutCertificate(c tls.Certificate) []any {
	names := strings.Join(c.Leaf.DNSNames, ", ")
	if names == "" {
		names = c.Leaf.Subject.String()
	}
	return []any{"names", names, "ends", c.Leaf.NotAfter.UTC().Format(time.RFC3339), "serial", c.Leaf.SerialNumber.Text(16)}
}
