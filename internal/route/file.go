package route

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// The file in which routes outlive the program is JSON, for people to read. It
// says whose it is: the names in it depend on the suffix and the rule, and the
// addresses on the cluster.
//
// It is only ever replaced as a whole, by a rename. So whenever the program
// ends, however it ends, there is either the old file or the new one.

const (
	fileFormat  = "kafka-sni-proxy routes"
	fileVersion = 1
	// maxFile is the longest file that is read, in bytes. 10 000 brokers take 1 MiB.
	maxFile = 64 << 20
)

type fileContent struct {
	Format    string       `json:"format"`
	Version   int          `json:"version"`
	Suffix    string       `json:"suffix"`
	Rule      string       `json:"rule"`
	Upstreams []string     `json:"upstreams"`
	Brokers   []fileBroker `json:"brokers"`
}

type fileBroker struct {
	Node int32  `json:"node"`
	Name string `json:"name"`
	Host string `json:"host"`
	Port int32  `json:"port"`
}

// Load adds the routes in a file written by [Table.Save], names included, so
// that brokers keep them. No file, or an empty one, is no routes. It must be
// called before the table is used.
//
// A file that is damaged, or that was written for another suffix, rule or
// cluster, is renamed to end in ".bad", with a warning, and no routes are taken
// from it. An error means that the file cannot be read or renamed.
func (t *Table) Load(path string) error {
	data, err := readFile(path)
	if err != nil || len(data) == 0 {
		return err
	}
	brokers, err := t.decode(data)
	if err == nil {
		t.restore(brokers)
		t.log.Info("routes restored", "file", path, "brokers", len(brokers))
		return nil
	}
	aside := path + ".bad"
	if renamed := os.Rename(path, aside); renamed != nil {
		return fmt.Errorf("setting %s aside, which cannot be used (%w): %w", path, err, renamed)
	}
	t.log.Warn("the routes file cannot be used and was set aside; brokers will be learned anew", "problem", err, "file", path, "now", aside)
	return nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// decode returns the brokers in a file of this table's.
func (t *Table) decode(data []byte) ([]fileBroker, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("it is longer than %d bytes", maxFile)
	}
	var c fileContent
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("it is damaged, or not a routes file: %w", err)
	}
	switch {
	case c.Format != fileFormat:
		return nil, errors.New("it is not a routes file")
	case c.Version != fileVersion:
		return nil, fmt.Errorf("its version is %d: this program knows version %d", c.Version, fileVersion)
	case c.Suffix != t.suffix:
		return nil, fmt.Errorf("it is for the suffix %q, not %q", c.Suffix, t.suffix)
	case c.Rule != t.ruleText():
		return nil, fmt.Errorf("it is for the broker mapping rule %q, not %q", c.Rule, t.ruleText())
	case !slices.ContainsFunc(t.upstreamTexts(), func(u string) bool { return slices.Contains(c.Upstreams, u) }):
		return nil, fmt.Errorf("it is for another cluster: none of its upstreams %q is one of %q", c.Upstreams, t.upstreamTexts())
	}
	names, nodes := map[string]bool{}, map[int32]bool{}
	for _, b := range c.Brokers {
		switch {
		case !validName(b.Name) || b.Name == t.Bootstrap():
			return nil, fmt.Errorf("%q is not a name for broker %d", b.Name, b.Node)
		case (Address{b.Host, b.Port}).check() != nil:
			return nil, fmt.Errorf("broker %d: %w", b.Node, (Address{b.Host, b.Port}).check())
		case names[b.Name] || nodes[b.Node]:
			return nil, fmt.Errorf("broker %d, %s, is in it twice", b.Node, b.Name)
		}
		names[b.Name], nodes[b.Node] = true, true
	}
	return c.Brokers, nil
}

func (t *Table) restore(brokers []fileBroker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range brokers {
		b := &broker{node: f.Node, name: f.Name}
		b.addr.Store(&Address{Host: f.Host, Port: f.Port})
		t.put(b)
	}
}

// Save writes all routes to a file, which it replaces as a whole.
func (t *Table) Save(path string) error {
	c := fileContent{
		Format:    fileFormat,
		Version:   fileVersion,
		Suffix:    t.suffix,
		Rule:      t.ruleText(),
		Upstreams: t.upstreamTexts(),
		Brokers:   []fileBroker{},
	}
	for _, e := range t.Entries() {
		if e.Address.check() != nil {
			continue // a broker may claim anything; Load would take it for damage
		}
		c.Brokers = append(c.Brokers, fileBroker{Node: e.Node, Name: e.Name, Host: e.Address.Host, Port: e.Address.Port})
	}
	slices.SortFunc(c.Brokers, func(a, b fileBroker) int { return cmp.Compare(a.Node, b.Node) })
	var data bytes.Buffer
	e := json.NewEncoder(&data)
	e.SetEscapeHTML(false) // a rule has < and > in it
	e.SetIndent("", " ")
	if err := e.Encode(c); err != nil {
		return err
	}
	return replaceFile(path, data.Bytes())
}

// replaceFile has the file hold data, or what it held before, at every moment,
// also when the machine loses its power.
func replaceFile(path string, data []byte) (err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	removeLeftovers(dir, base)
	tmp, err := os.CreateTemp(dir, temporaryName(base))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if _, err := tmp.Write(data); err != nil {
		return err
	}
	if err := tmp.Chmod(0o644); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func temporaryName(base string) string { return "." + base + ".new-*" }

// removeLeftovers removes what was being written when the program was killed.
// Files of the last minute may be another program's that keeps the same file.
func removeLeftovers(dir, base string) {
	leftovers, _ := filepath.Glob(filepath.Join(dir, temporaryName(base)))
	for _, name := range leftovers {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > time.Minute {
			os.Remove(name)
		}
	}
}

// syncDir makes a rename last. Where directories cannot be synced it lasts all
// the same, or cannot be made to.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	d.Sync()
	return nil
}

// check reports what is no address to dial.
func (a Address) check() error {
	if a.Host == "" || a.Port < 1 || a.Port > 65535 {
		return fmt.Errorf("%s is no address", a)
	}
	return nil
}

func (t *Table) ruleText() string {
	if t.rule == nil {
		return ""
	}
	return t.rule.String()
}

func (t *Table) upstreamTexts() []string {
	var all []string
	for _, u := range t.upstreams {
		all = append(all, u.String())
	}
	return all
}
