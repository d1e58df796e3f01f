package certs

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Servers send certificates in any order, and some that have nothing to do with their own.
func TestTheAuthorityOfAChainIsTheOneThatSignedAllOthers(t *testing.T) {
	root := sign(t, "Root", true, nil)
	middle := sign(t, "Middle", true, root)
	leaf := sign(t, "broker", false, middle)
	other := sign(t, "Other", true, nil)
	twin := sign(t, "Middle", true, root) // the same name, another key
	alone := sign(t, "alone", false, nil)
	namesake := sign(t, "Root", false, root) // named as its issuer, and not signed by itself
	noCA := sign(t, "Middle", false, root)
	byNoCA := sign(t, "broker", false, noCA)
	for name, test := range map[string]struct {
		shown   []*signer
		want    *signer // nil: none
		signed  int
		hasRoot bool
	}{
		"all, in order":                  {[]*signer{leaf, middle, root}, root, 3, true},
		"all, in another order":          {[]*signer{leaf, root, middle}, root, 3, true},
		"with others":                    {[]*signer{leaf, other, twin, root, middle}, root, 3, true},
		"without the root":               {[]*signer{leaf, middle}, middle, 2, false},
		"without the one in the middle":  {[]*signer{leaf, root}, nil, 1, false},
		"no authority at all":            {[]*signer{leaf}, nil, 1, false},
		"one of the same name":           {[]*signer{leaf, twin, root}, nil, 1, false},
		"signed by itself":               {[]*signer{alone}, alone, 1, true},
		"signed by itself, with others":  {[]*signer{alone, other}, alone, 1, true},
		"named as its issuer":            {[]*signer{namesake}, nil, 1, false},
		"named as its issuer, with that": {[]*signer{namesake, root}, root, 2, true},
		"signed by what is no authority": {[]*signer{byNoCA, noCA, root}, nil, 1, false},
		"a thousand":                     {slices.Concat([]*signer{leaf, middle, root}, slices.Repeat([]*signer{twin}, 1000)), root, 3, true},
		"a thousand before the root":     {slices.Concat([]*signer{leaf, middle}, slices.Repeat([]*signer{twin}, 1000), []*signer{root}), middle, 2, false},
	} {
		var shown []*x509.Certificate
		for _, s := range test.shown {
			shown = append(shown, s.cert)
		}
		c := NewChain(shown)
		var want *x509.Certificate
		if test.want != nil {
			want = test.want.cert
		}
		if got := c.Authority(); got != want || len(c.Signed) != test.signed || c.HasRoot() != test.hasRoot || c.Signed[0] != shown[0] {
			t.Errorf("%s: not the right one, of %d certificates, root %v", name, len(c.Signed), c.HasRoot())
		}
	}
}

func TestAnAuthorityTakesThePlaceOfNothing(t *testing.T) {
	ours, other := sign(t, "Ours", true, nil).cert, sign(t, "Other", true, nil).cert
	dir := t.TempDir()
	path := filepath.Join(dir, "ca.pem")
	if found, err := FindAuthority(path, ours); found || err != nil {
		t.Errorf("without a file: %v %v", found, err)
	}
	if err := SaveAuthority(path, ours); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if loaded, err := LoadAuthorities(path); err != nil || len(loaded) != 1 || !loaded[0].Equal(ours) {
		t.Errorf("%v %v", loaded, err)
	}
	if found, err := FindAuthority(path, ours); !found || err != nil {
		t.Errorf("what was written: %v %v", found, err)
	}
	before := read(t, path)
	if found, err := FindAuthority(path, other); found || !errors.Is(err, fs.ErrExist) {
		t.Errorf("another one: %v %v", found, err)
	}
	if err := SaveAuthority(path, other); !errors.Is(err, fs.ErrExist) || read(t, path) != before {
		t.Errorf("it was replaced: %v", err)
	}
	both := write(t, dir, "both.pem", "two of them\n"+encode("CERTIFICATE", other.Raw)+before)
	if found, err := FindAuthority(both, ours); !found || err != nil {
		t.Errorf("with others: %v %v", found, err)
	}
	for name, place := range map[string]string{"a folder": dir, "no PEM": write(t, dir, "text", "hello"), "empty": write(t, dir, "empty", "")} {
		if found, err := FindAuthority(place, ours); found || !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v %v", name, found, err)
		}
		if err := SaveAuthority(place, ours); err == nil {
			t.Errorf("%s was replaced", name)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Skip(err)
	}
	if err := SaveAuthority(link, ours); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a link that leads nowhere: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 5 {
		t.Errorf("something is left: %v", entries)
	}
}
