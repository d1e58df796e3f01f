package credentials

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"go.yaml.in/yaml/v4"

	"kafka-sni-proxy/internal/sasl"
)

// file is a file with all credentials. It is read again when it is not what it was. A new one
// that cannot be used leaves those of the old one in use.
type file struct {
	path string

	mu    sync.Mutex
	seen  stamp
	all   func() map[string]sasl.Secret // nil: it was never read; fmt prints no more than its address
	wrong error                         // with it as it is now
}

// stamp tells whether a file has changed.
type stamp struct {
	is   fs.FileInfo
	size int64
	at   time.Time
}

func (s stamp) same(o stamp) bool {
	return s.is != nil && o.is != nil && os.SameFile(s.is, o.is) && s.size == o.size && s.at.Equal(o.at)
}

func newFile(path string) *file { return &file{path: path} }

// of returns the credential of a principal; fs.ErrNotExist: it has none.
func (f *file) of(principal string) (sasl.Secret, error) {
	all, err := f.read()
	if all == nil {
		return "", err
	}
	credential, known := all[principal]
	if !known {
		return "", fs.ErrNotExist
	}
	return credential, nil
}

// read returns all credentials, and what is wrong with the file as it is now. It returns those
// that were read before, if there are any, beside an error.
func (f *file) read() (map[string]sasl.Secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	is, err := os.Stat(f.path)
	if err != nil {
		f.seen, f.wrong = stamp{}, fmt.Errorf("the file of credentials: %v", err) // and that there is none says nothing of a principal
	} else if now := (stamp{is, is.Size(), is.ModTime()}); !now.same(f.seen) {
		all, err := readAll(f.path)
		f.seen, f.wrong = now, err
		if err == nil {
			f.all = func() map[string]sasl.Secret { return all }
		}
	}
	if f.all == nil {
		return nil, f.wrong
	}
	return f.all(), f.wrong
}

// readAll reads a file of credentials.
func readAll(path string) (map[string]sasl.Secret, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the file of credentials: %v", err)
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %v", path, err)
	case len(text) > maxFile:
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	all, err := parseFile(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

// parseFile reads a mapping of principals to credentials. What is wrong is told by its line,
// and never with what is there.
func parseFile(text []byte) (map[string]sasl.Secret, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		var syntax *yaml.LoadError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("line %d is not YAML: want PRINCIPAL: CREDENTIAL on each, with both in quotes if there are special characters in them", syntax.Mark.Line)
		}
		return nil, errors.New("it is not YAML: want PRINCIPAL: CREDENTIAL on each line")
	}
	all := map[string]sasl.Secret{}
	if len(document.Content) == 0 {
		return all, nil
	}
	top := document.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return all, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: want PRINCIPAL: CREDENTIAL on each line", top.Line)
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		_, twice := all[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || value.Kind != yaml.ScalarNode || key.Value == "<<" && key.Style == 0:
			return nil, fmt.Errorf("line %d: want PRINCIPAL: CREDENTIAL, two texts", key.Line)
		case key.Value == "":
			return nil, fmt.Errorf("line %d: the principal is empty", key.Line)
		case twice:
			return nil, fmt.Errorf("line %d: this principal has a credential already", key.Line)
		}
		credential, err := checkCredential([]byte(value.Value), fmt.Sprintf("line %d", value.Line))
		if err != nil {
			return nil, err
		}
		all[key.Value] = credential
	}
	return all, nil
}
