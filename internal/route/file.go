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
	"slices"
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
	// maxFile is the longest file that is read, in bytes. 10 000 brokers usually
	// take 1 MiB; at most, with every string as long as it may be, 30.
	maxFile = 64 << 20
)

type fileContent struct {
	Format    string       `json:"format"`
	Version   int          `json:"version"`
	Suffix    string       `json:"suffix"`
	Rule      string       `json:"rule"`
	Upstreams []string     `json:"upstreams"`
	ClusterID string       `json:"cluster-id,omitempty"` // not in the first version's files
	Brokers   []fileBroker `json:"brokers"`
}

type fileBroker struct {
	Node    int32    `json:"node"`
	Name    string   `json:"name"`
	Aliases []string `json:"aliases,omitempty"` // not in the first version's files
	Host    string   `json:"host"`
	Port    int32    `json:"port"`
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
	c, err := t.decode(data)
	if err == nil {
		t.restore(c)
		t.log.Info("routes restored", "file", path, "brokers", t.Known())
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

// decode returns what is in a file of this table's.
func (t *Table) decode(data []byte) (*fileContent, error) {
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
	case c.Suffix != t.scheme():
		return nil, fmt.Errorf("it is for the suffix %q, not %q", c.Suffix, t.scheme())
	case c.Rule != t.ruleText():
		return nil, fmt.Errorf("it is for the broker mapping rule %q, not %q", c.Rule, t.ruleText())
	case !slices.ContainsFunc(t.upstreamTexts(), func(u string) bool { return slices.Contains(c.Upstreams, u) }):
		return nil, fmt.Errorf("it is for another cluster: none of its upstreams %q is one of %q", c.Upstreams, t.upstreamTexts())
	case len(c.ClusterID) > maxClusterID:
		return nil, fmt.Errorf("its cluster id is %d bytes long", len(c.ClusterID))
	}
	return &c, t.checkBrokers(c.Brokers)
}

// checkBrokers reports what cannot be true of brokers in a file.
func (t *Table) checkBrokers(brokers []fileBroker) error {
	owners, nodes := map[string]bool{}, map[int32]bool{}
	for _, b := range brokers {
		if err := (Address{b.Host, b.Port}).check(); err != nil {
			return fmt.Errorf("broker %d: %w", b.Node, err)
		}
		if nodes[b.Node] || b.Node < 0 {
			return fmt.Errorf("broker %d, %s, is in it twice, or is none", b.Node, b.Name)
		}
		nodes[b.Node] = true
		for _, name := range append([]string{b.Name}, b.Aliases...) {
			switch {
			case !validName(name) || name == t.bootstrap:
				return fmt.Errorf("%q is not a name for broker %d", name, b.Node)
			case owners[name]:
				return fmt.Errorf("the name %s of broker %d is in it twice", name, b.Node)
			}
			owners[name] = true
		}
	}
	return nil
}

// restore adds what a file has. An earlier version may have written more brokers
// than are kept.
func (t *Table) restore(c *fileContent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.ClusterID != "" {
		t.clusterID.Store(&c.ClusterID)
	}
	brokers := c.Brokers[:min(len(c.Brokers), maxBrokers)]
	t.refused.Add(int64(len(c.Brokers) - len(brokers)))
	for _, f := range brokers {
		aliases := f.Aliases[max(len(f.Aliases)-maxAliases, 0):]
		t.store(&broker{node: f.Node}, &state{name: f.Name, aliases: aliases, addr: Address{Host: f.Host, Port: f.Port}})
	}
	// With all names known, what keeps a broker from the rule's name is known too.
	for _, f := range brokers {
		b, c := t.node(f.Node), t.choose(f.Node, f.Host)
		is := *b.state.Load()
		is.wanted = c.wanted
		b.state.Store(&is)
		t.explain(b, f.Host, c)
	}
}

// Save writes all routes to a file, which it replaces as a whole.
func (t *Table) Save(path string) error {
	c := fileContent{
		Format:    fileFormat,
		Version:   fileVersion,
		Suffix:    t.scheme(),
		Rule:      t.ruleText(),
		Upstreams: t.upstreamTexts(),
	}
	c.ClusterID, c.Brokers = t.snapshot()
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

// snapshot returns the cluster's id and brokers at one moment, so that no name in
// the file is also another broker's, and no broker another cluster's.
func (t *Table) snapshot() (clusterID string, brokers []fileBroker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	brokers = []fileBroker{}
	for _, e := range t.Entries() {
		if e.Address.check() != nil {
			continue // a broker may claim anything; Load would take it for damage
		}
		brokers = append(brokers, fileBroker{Node: e.Node, Name: e.Name, Aliases: e.Aliases, Host: e.Address.Host, Port: e.Address.Port})
	}
	return t.ClusterID(), brokers
}

// scheme is what the names in the file depend on, beside the rule: the suffix, or
// names of one's own.
func (t *Table) scheme() string {
	if t.bootstrap == "bootstrap."+t.suffix && t.broker == (nameTemplate{"b", "." + t.suffix}) {
		return t.suffix
	}
	return t.bootstrap + " " + t.Template()
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
