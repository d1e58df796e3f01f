package config

import (
	"bytes"
	"net"
	"reflect"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v4"
)

// MarshalYAML keeps secrets out of what is shown.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// MarshalYAML keeps secrets out of what is shown.
func (t Template) MarshalYAML() (any, error) { return t.String(), nil }

// Show returns the configuration as a file: every setting that is in force, with secrets as
// ***. What has no value, such as a group of settings that was not given, is left out.
func (c *Config) Show() ([]byte, error) {
	n := nodeOf(c.withDefaults())
	each(get(n, "clusters"), func(c *yaml.Node) {
		if get(c, "targets") != nil { // these are theirs
			drop(c, keysOf(reflect.TypeFor[Target]()))
		}
	})
	return encode(n)
}

// Short returns the configuration as a file that has only what differs from the defaults.
func (c *Config) Short() ([]byte, error) {
	n := nodeOf(c)
	prune(n, nodeOf(New()))
	each(get(n, "listeners"), func(l *yaml.Node) { prune(l, nodeOf(&Listener{})) })
	each(get(n, "clusters"), func(c *yaml.Node) {
		each(get(c, "targets"), func(t *yaml.Node) { prune(t, nodeOf(&NamedTarget{})) })
		prune(c, nodeOf(&Cluster{}))
	})
	return encode(n)
}

// withDefaults returns a copy with what follows from other settings filled in.
func (c *Config) withDefaults() *Config {
	full := *c
	full.Listeners = nil
	for _, l := range c.Listeners {
		l := *l
		if l.Ports == nil {
			l.Clusters = c.Served(&l)
			if _, port, err := net.SplitHostPort(l.Bind); err == nil && l.AdvertisedPort == 0 && !slices.ContainsFunc(l.Clusters, c.hasPort) {
				l.AdvertisedPort, _ = strconv.Atoi(port)
			}
		}
		full.Listeners = append(full.Listeners, &l)
	}
	return &full
}

// hasPort reports whether there is a cluster with an advertised port of its own.
func (c *Config) hasPort(cluster string) bool {
	return c.Clusters[cluster] != nil && c.Clusters[cluster].AdvertisedPort != 0
}

// nodeOf returns a value as YAML, without what is empty and has no meaning.
func nodeOf(v any) *yaml.Node {
	var n yaml.Node
	if err := n.Encode(v); err != nil {
		panic(err) // settings are plain values
	}
	dropEmpty(&n)
	escapeAll(&n)
	return &n
}

// escapeAll keeps the reader from taking a part of a text for a variable.
func escapeAll(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		n.Value = escape(n.Value)
	}
	for _, part := range n.Content {
		escapeAll(part)
	}
}

// dropEmpty leaves out settings that are empty text, empty lists or empty groups.
func dropEmpty(n *yaml.Node) {
	kept := n.Content[:0]
	for i := 0; i < len(n.Content); i++ {
		dropEmpty(n.Content[i])
		if n.Kind == yaml.MappingNode {
			key, value := n.Content[i], n.Content[i+1]
			dropEmpty(value)
			i++
			if !isEmpty(value) && (key.Value != "advertised-port" || value.Value != "0") {
				kept = append(kept, key, value)
			}
			continue
		}
		kept = append(kept, n.Content[i])
	}
	n.Content = kept
}

func isEmpty(n *yaml.Node) bool {
	if n.Kind == yaml.ScalarNode {
		return n.Value == "" || n.Tag == "!!null"
	}
	return len(n.Content) == 0
}

// prune takes out of a mapping what another one has with the same value.
func prune(n, defaults *yaml.Node) {
	kept := n.Content[:0]
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if other := get(defaults, key.Value); other != nil {
			if value.Kind == yaml.MappingNode {
				prune(value, other)
			} else if sameNode(value, other) {
				continue
			}
		}
		if !isEmpty(value) {
			kept = append(kept, key, value)
		}
	}
	n.Content = kept
}

func sameNode(a, b *yaml.Node) bool {
	return a.Kind == b.Kind && a.Value == b.Value && reflect.DeepEqual(a.Content, b.Content)
}

// get returns the value of a key in a mapping; nil for none.
func get(n *yaml.Node, key string) *yaml.Node {
	if n == nil {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// drop takes keys out of a mapping.
func drop(n *yaml.Node, keys []string) {
	for i := len(n.Content) - 2; i >= 0; i -= 2 {
		if slices.Contains(keys, n.Content[i].Value) {
			n.Content = slices.Delete(n.Content, i, i+2)
		}
	}
}

// each calls f for the items of a list, or the values of a mapping.
func each(n *yaml.Node, f func(*yaml.Node)) {
	if n == nil {
		return
	}
	for i, item := range n.Content {
		if n.Kind == yaml.SequenceNode || i%2 == 1 {
			f(item)
		}
	}
}

func encode(n *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return nil, err
	}
	if err := e.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
