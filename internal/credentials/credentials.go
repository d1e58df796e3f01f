// Package credentials finds what the proxy shows a cluster's brokers for a client: by its
// principal, in a folder with a file for each, in a file with all of them, by a command, or
// made of a template.
//
// A credential is a text; [UserPassword], [Token] and [KeyPair] read it. Files are read when
// they are asked for, so that one which is changed or taken away counts from the next login on.
// What a command prints is kept for a while, as it may take long.
//
// A principal comes from a client. It is never a path, nor a part of a command line that
// could be taken for an option: see checkPart.
package credentials

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"kafka-sni-proxy/internal/sasl"
)

// Options say where credentials are: one of Folder, File, Exec and Template, or none.
type Options struct {
	// Folder has a file for each principal, called as the principal is.
	Folder string
	// File is a mapping in YAML: PRINCIPAL: CREDENTIAL.
	File string
	// Exec is a command that prints the credential, and its arguments, in which ${principal} is
	// the principal.
	Exec []string
	// ExecTimeout is how long the command may take. 0: 5 s.
	ExecTimeout time.Duration
	// MaxAge is how long what a command has printed is kept. 0: 5 minutes.
	MaxAge time.Duration
	// Template is a credential with ${principal} in it, or file: and a path.
	Template sasl.Secret
	// Default is for principals that have none. "": these are refused.
	Default sasl.Secret
	// Proxy is for the proxy's own questions. "": Default.
	Proxy sasl.Secret
}

const (
	// MaxCredential is the longest credential, in bytes: certificates with a chain, tokens.
	MaxCredential = 64 << 10
	// maxFile is the longest file with all of them, in bytes.
	maxFile = 64 << 20

	placeholder = "${principal}"
	filePrefix  = "file:"
)

// NoneError is of a principal that has no credential. A client may be told.
type NoneError struct{ Principal string }

func (e *NoneError) Error() string {
	return fmt.Sprintf("there is no credential for %q at the brokers: have one added, or log in as somebody else", e.Principal)
}

// UnavailableError is of a credential that could not be looked up, though there may be one.
// Err is for the log alone: it names files and commands. It has no secret in it.
type UnavailableError struct {
	Principal string
	Err       error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("the credential of %q cannot be looked up: %v", e.Principal, e.Err)
}
func (e *UnavailableError) Unwrap() error { return e.Err }

// Unavailable tells it from a refusal.
func (e *UnavailableError) Unavailable() bool { return true }

// Store finds credentials. It may be used concurrently.
type Store struct {
	folder       string
	file         *file
	helper       *helper
	template     func() sasl.Secret // fmt prints no more of a function than its address
	fallback     func() sasl.Secret
	proxy        func() sasl.Secret
	templateUsed bool
}

// New returns a store. It opens the folder or the file; the error says what is wrong with it.
func New(o Options) (*Store, error) {
	constant := func(s sasl.Secret) func() sasl.Secret { return func() sasl.Secret { return s } }
	s := &Store{
		folder: o.Folder, templateUsed: o.Template != "",
		template: constant(o.Template), fallback: constant(o.Default), proxy: constant(cmp.Or(o.Proxy, o.Default)),
	}
	var err error
	switch {
	case o.Folder != "":
		var root *os.Root
		if root, err = os.OpenRoot(o.Folder); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the folder %s does not exist: make it, with a file for each principal in it", o.Folder)
		}
		if err == nil {
			root.Close()
		}
	case o.File != "":
		s.file = newFile(o.File)
		_, err = s.file.read()
	case len(o.Exec) > 0:
		s.helper, err = newHelper(o.Exec, cmp.Or(o.ExecTimeout, 5*time.Second), cmp.Or(o.MaxAge, 5*time.Minute))
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Lookup returns the credential of a principal. The error is a [*NoneError] or an
// [*UnavailableError].
func (s *Store) Lookup(ctx context.Context, principal string) (sasl.Secret, error) {
	found, err := s.find(ctx, principal)
	switch {
	case err == nil:
		return found, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", &UnavailableError{principal, err}
	case s.fallback() != "":
		return s.fallback(), nil
	}
	return "", &NoneError{principal}
}

// ForProxy returns the credential for the proxy's own questions; "": there is none.
func (s *Store) ForProxy() sasl.Secret { return s.proxy() }

// find returns the credential of a principal; fs.ErrNotExist: there is none.
func (s *Store) find(ctx context.Context, principal string) (sasl.Secret, error) {
	switch {
	case s.folder != "":
		return s.inFolder(principal)
	case s.file != nil:
		return s.file.of(principal)
	case s.helper != nil:
		return s.helper.of(ctx, principal)
	case s.templateUsed:
		return s.fromTemplate(principal)
	}
	return "", fs.ErrNotExist
}

// checkPart reports whether a principal can be the name of a file: one that is in the folder
// itself, and none of those that Kubernetes and editors put there.
func checkPart(principal string) error {
	if principal == "" || principal[0] == '.' || strings.ContainsAny(principal, `/\`) || strings.ContainsFunc(principal, unicode.IsControl) || !utf8.ValidString(principal) || len(principal) > 255 {
		return fs.ErrNotExist // nobody can have put it there
	}
	return nil
}

// inFolder reads the file of a principal. Links may lead to anywhere within the folder, as
// those do that Kubernetes mounts, and to nowhere else.
func (s *Store) inFolder(principal string) (sasl.Secret, error) {
	if err := checkPart(principal); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(s.folder)
	if err != nil {
		return "", fmt.Errorf("the folder cannot be opened: %v", err) // and that there is none says nothing of the principal
	}
	defer root.Close()
	f, err := root.Open(principal)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readCredential(f, filepath.Join(s.folder, principal))
}

// readCredential reads a credential, without the end of its last line.
func readCredential(f fs.File, name string) (sasl.Secret, error) {
	is, err := f.Stat()
	switch {
	case err != nil:
		return "", err
	case !is.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a file", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxCredential+1))
	if err != nil {
		return "", err
	}
	return checkCredential(text, name)
}

// checkCredential returns a credential as it was read from somewhere.
func checkCredential(text []byte, from string) (sasl.Secret, error) {
	if len(text) > MaxCredential {
		return "", fmt.Errorf("%s has more than %d bytes: that is no credential", from, MaxCredential)
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) == 0 {
		return "", fmt.Errorf("%s is empty", from)
	}
	return sasl.Secret(text), nil
}

// fromTemplate makes the credential of a principal.
func (s *Store) fromTemplate(principal string) (sasl.Secret, error) {
	path, isFile := strings.CutPrefix(s.template().Reveal(), filePrefix)
	if !isFile {
		if strings.ContainsFunc(principal, unicode.IsControl) {
			return "", fs.ErrNotExist
		}
		return sasl.Secret(strings.ReplaceAll(s.template().Reveal(), placeholder, principal)), nil
	}
	if err := checkPart(principal); err != nil {
		return "", err
	}
	path = strings.ReplaceAll(path, placeholder, principal)
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readCredential(f, path)
}

// Warnings are of what is likely to be wrong: secrets that everybody on the machine can read,
// and a new file that cannot be used.
func (s *Store) Warnings() (all []string) {
	open := func(path string) {
		if is, err := os.Stat(path); err == nil && is.Mode().Perm()&0o004 != 0 && is.Mode().IsRegular() {
			all = append(all, fmt.Sprintf("everybody on this machine can read %s: chmod o-r %s", path, path))
		}
	}
	if s.file != nil {
		open(s.file.path)
		if _, err := s.file.read(); err != nil {
			all = append(all, err.Error()+": what was read before stays in use")
		}
	}
	if s.folder != "" {
		all = append(all, s.folderWarnings()...)
	}
	return all
}

func (s *Store) folderWarnings() []string {
	root, err := os.OpenRoot(s.folder)
	if err != nil {
		return []string{fmt.Sprintf("the folder of credentials cannot be opened: %v", err)}
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return []string{fmt.Sprintf("the folder %s cannot be read: %v", s.folder, err)}
	}
	if is, err := root.Stat("."); err != nil || is.Mode().Perm()&0o001 == 0 {
		return nil // nobody else gets in
	}
	readable := 0
	for _, e := range entries {
		if is, err := root.Stat(e.Name()); err == nil && is.Mode().IsRegular() && is.Mode().Perm()&0o004 != 0 && checkPart(e.Name()) == nil {
			readable++
		}
	}
	if readable == 0 {
		return nil
	}
	return []string{fmt.Sprintf("everybody on this machine can read %d of the credentials in %s: chmod o-rx %s", readable, s.folder, s.folder)}
}

var errNotOneLine = errors.New("the credential has more than one line: want USER:PASSWORD on one")

// UserPassword reads USER:PASSWORD. The password may have colons in it.
func UserPassword(credential sasl.Secret) (sasl.Credential, error) {
	text := credential.Reveal()
	if strings.ContainsAny(text, "\r\n") {
		return sasl.Credential{}, errNotOneLine
	}
	user, password, ok := strings.Cut(text, ":")
	if !ok || user == "" || password == "" {
		return sasl.Credential{}, errors.New("the credential is not USER:PASSWORD")
	}
	return sasl.Credential{User: user, Password: sasl.Secret(password)}, nil
}

// Token reads a token.
func Token(credential sasl.Secret) (sasl.Credential, error) {
	text := strings.TrimSpace(credential.Reveal())
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return sasl.Credential{}, errors.New("the credential is not a token: it has blanks or characters that no token has")
	}
	return sasl.Credential{Token: sasl.Secret(text)}, nil
}

// KeyPair reads a certificate, with its intermediate certificates, and its private key, in PEM.
func KeyPair(credential sasl.Secret) (tls.Certificate, error) {
	text := []byte(credential.Reveal())
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the credential is not a certificate with its private key in PEM: %w", err)
	}
	if left := time.Until(pair.Leaf.NotAfter); left < 0 {
		return tls.Certificate{}, fmt.Errorf("the certificate %q has expired on %s: renew it", pair.Leaf.Subject, pair.Leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST"))
	}
	return pair, nil
}
