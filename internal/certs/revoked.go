package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Revoked are the certificates that their authorities have taken back, as read
// from certificate revocation lists (RFC 5280, 5). It never changes. A nil
// Revoked has none.
type Revoked struct {
	serials map[revokedKey]time.Time
	// NextUpdate is when the first of the lists should have been followed by
	// another one; zero when none says so.
	NextUpdate time.Time

	file        string              // or several
	digest      [sha256.Size]byte   // of their content
	authorities []*x509.Certificate // that were asked for
	listed      map[string]bool     // of which there is a list, by distinguished name
}

// revokedKey is what a list names a certificate by. A list is for all that goes
// under its issuer's name, whichever of the issuer's keys has signed it.
type revokedKey struct{ issuer, serial string }

func keyOf(cert *x509.Certificate) revokedKey {
	return revokedKey{string(cert.RawIssuer), string(cert.SerialNumber.Bytes())}
}

// LoadRevoked reads the revocation lists in files: each PEM, of which there may be
// several, or one in DER. Each must be signed by one of the authorities, and hold
// nothing that is not understood here, as delta lists do.
//
// A list that is older than it should be is taken all the same, see
// [Revoked.Warnings]: what it revokes stays revoked.
func LoadRevoked(authorities []*x509.Certificate, files ...string) (*Revoked, error) {
	r := &Revoked{
		serials:     map[revokedKey]time.Time{},
		file:        strings.Join(files, ", "),
		authorities: authorities,
		listed:      map[string]bool{},
	}
	for _, file := range files {
		content, err := readFile(file)
		if err != nil {
			return nil, err
		}
		lists, err := revocationLists(file, content)
		if err != nil {
			return nil, err
		}
		for i, der := range lists {
			if err := r.add(der); err != nil {
				return nil, fmt.Errorf("%s: revocation list %d in it %w", file, i+1, err)
			}
		}
		r.digest = sha256.Sum256(append(r.digest[:], content...))
	}
	return r, nil
}

// revocationLists returns the lists in a file, in DER.
func revocationLists(file string, content []byte) (lists [][]byte, err error) {
	if bytes.HasPrefix(content, []byte{0x30}) { // an ASN.1 sequence
		lists = [][]byte{content}
	}
	var others string
	for _, block := range decodePEM(content) {
		if block.Type == "X509 CRL" {
			lists = append(lists, block.Bytes)
		} else {
			others = block.Type
		}
	}
	switch {
	case len(lists) == 0 && others != "":
		return nil, fmt.Errorf("%s holds no revocation list (X509 CRL), only %q", file, others)
	case len(lists) == 0:
		return nil, fmt.Errorf("%s holds no revocation list, neither in PEM nor in DER: make one with openssl ca -gencrl", file)
	}
	return lists, nil
}

func (r *Revoked) add(der []byte) error {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return fmt.Errorf("is damaged: %w", err)
	}
	if err := r.checkIssuer(list); err != nil {
		return err
	}
	// Which certificates a list is for (issuing distribution point) does not
	// matter: those on it are revoked. What else is critical would change what
	// the list, or an entry, means.
	for _, ext := range list.Extensions {
		if ext.Critical && !ext.Id.Equal(issuingDistributionPoint) {
			return fmt.Errorf("has the critical extension %v: only full lists can be used here, no delta lists", ext.Id)
		}
	}
	for _, entry := range list.RevokedCertificateEntries {
		for _, ext := range entry.Extensions {
			if ext.Critical {
				return fmt.Errorf("has the critical extension %v on an entry: only an authority's own lists can be used here, no indirect ones", ext.Id)
			}
		}
		r.serials[revokedKey{string(list.RawIssuer), string(entry.SerialNumber.Bytes())}] = entry.RevocationTime
	}
	r.listed[string(list.RawIssuer)] = true
	if next := list.NextUpdate; !next.IsZero() && (r.NextUpdate.IsZero() || next.Before(r.NextUpdate)) {
		r.NextUpdate = next
	}
	return nil
}

var issuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28} // RFC 5280, 5.2.5

// checkIssuer reports a list that none of the authorities has signed. Several
// may go under the name in it, with keys of different age.
func (r *Revoked) checkIssuer(list *x509.RevocationList) error {
	err := fmt.Errorf("is by %q, which is none of the authorities: leave it out, or add the authority", list.Issuer)
	for _, authority := range r.authorities {
		if !bytes.Equal(authority.RawSubject, list.RawIssuer) {
			continue
		}
		signed := list.CheckSignatureFrom(authority)
		if signed == nil {
			return nil
		}
		err = fmt.Errorf("is not signed by the authority that it names, %q: %w", list.Issuer, signed)
	}
	return err
}

// Len returns how many certificates are revoked.
func (r *Revoked) Len() int {
	if r == nil {
		return 0
	}
	return len(r.serials)
}

// Equal reports whether two are of the same lists and authorities.
func (r *Revoked) Equal(other *Revoked) bool {
	if r == nil || other == nil {
		return r == other
	}
	return r.digest == other.digest && slices.EqualFunc(r.authorities, other.authorities, (*x509.Certificate).Equal)
}

// Check reports a peer's certificate of which no chain is free of revoked ones.
func (r *Revoked) Check(chains [][]*x509.Certificate) error {
	if r == nil {
		return nil
	}
	err := errors.New("the certificate has no verified chain")
	for _, chain := range chains {
		if err = r.checkChain(chain); err == nil {
			return nil
		}
	}
	return err
}

func (r *Revoked) checkChain(chain []*x509.Certificate) error {
	for _, cert := range chain {
		if at, revoked := r.serials[keyOf(cert)]; revoked {
			return fmt.Errorf("the certificate %s, serial number %x, was revoked on %s by %q", title(cert), cert.SerialNumber, at.UTC().Format(minute), cert.Issuer)
		}
	}
	return nil
}

// Warnings say why the lists may not tell everything: one is older than it should
// be, or an authority has none.
func (r *Revoked) Warnings() []string {
	if r == nil {
		return nil
	}
	var warnings []string
	if !r.NextUpdate.IsZero() && time.Now().After(r.NextUpdate) {
		warnings = append(warnings, fmt.Sprintf("%s should have been replaced by %s: certificates revoked since then are let in; get a new list", r.file, r.NextUpdate.UTC().Format(minute)))
	}
	for _, authority := range r.authorities {
		if !r.listed[string(authority.RawSubject)] {
			warnings = append(warnings, fmt.Sprintf("%s has no list by %s: its certificates cannot be revoked", r.file, title(authority)))
		}
	}
	return warnings
}
