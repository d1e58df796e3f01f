package certs

import (
	"crypto/tls"
	"strings"
)

// ByName returns a GetCertificate for several certificates: it gives the first one that
// covers the server's name and that the client can use, or else the first one that it can
// use. The name is looked up: the number of certificates does not matter.
func ByName(all []tls.Certificate) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	byName := map[string][]*tls.Certificate{}
	for i := range all {
		names := all[i].Leaf.DNSNames
		if len(names) == 0 {
			names = []string{all[i].Leaf.Subject.CommonName}
		}
		for _, name := range names {
			name = strings.ToLower(name)
			byName[name] = append(byName[name], &all[i])
		}
	}
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		name := strings.ToLower(hello.ServerName)
		_, parent, _ := strings.Cut(name, ".")
		for _, candidates := range [][]*tls.Certificate{byName[name], byName["*."+parent]} {
			for _, c := range candidates {
				if hello.SupportsCertificate(c) == nil {
					return c, nil
				}
			}
		}
		// None is for that name, or the client sent none: what it makes of another one is up
		// to it.
		anyName := *hello
		anyName.ServerName = ""
		for i := range all {
			if anyName.SupportsCertificate(&all[i]) == nil {
				return &all[i], nil
			}
		}
		return &all[0], nil
	}
}
