package route

import (
	"fmt"
	"iter"
	"strings"
)

// Naming gives the address under which clients see a broker. Which one that is depends on
// the listener that a client came by: the same broker is b3.kafka.example:9092 for one,
// and localhost:9196 for another.
type Naming interface {
	// Address returns the address of a broker for a client, given its node id and the name
	// that a [Table] has for it. The error refuses to tell of the broker.
	Address(node int32, name string) (host string, port int32, err error)
}

// OnePort is the naming where all brokers have the same port, and are told apart by name.
type OnePort int32

// Address implements Naming.
func (p OnePort) Address(_ int32, name string) (string, int32, error) { return name, int32(p), nil }

// Ports is the naming where each broker has a port of its own at one host. It needs no
// state: every copy of the proxy, at every start, gives a broker the same port.
type Ports struct {
	// Host is where clients reach the ports.
	Host string
	// First and Last are the ports of the first and of the last broker.
	First, Last int32
	// FirstNode is the node id of the broker that has the port First.
	FirstNode int32
}

// Address implements Naming. The error is a [*NoPortError].
func (p *Ports) Address(node int32, _ string) (string, int32, error) {
	port := int64(node) - int64(p.FirstNode) + int64(p.First)
	if node < 0 || port < int64(p.First) || port > int64(p.Last) {
		return "", 0, &NoPortError{Node: node, Ports: *p}
	}
	return p.Host, int32(port), nil
}

// Node returns the node id of the broker that has a port of the range.
func (p *Ports) Node(port int32) int32 { return port - p.First + p.FirstNode }

// NoPortError is of a broker whose node id has no port in the range.
type NoPortError struct {
	Node  int32
	Ports Ports
}

func (e *NoPortError) Error() string {
	p := e.Ports
	return fmt.Sprintf("broker %d has no port: %d-%d are for the node ids %d to %d", e.Node, p.First, p.Last, p.FirstNode, p.Node(p.Last))
}

// Names are the names by which clients see a cluster, where they are not made from a suffix.
type Names struct {
	// Bootstrap is the name that clients know.
	Bootstrap string
	// Broker is the name of each broker, with {id} for its node id.
	Broker string
}

// idPlace is what stands for the node id in a broker's name.
const idPlace = "{id}"

// nameTemplate makes brokers' names: before, then the node id, then after.
type nameTemplate struct{ before, after string }

func parseTemplate(s string) (nameTemplate, error) {
	before, after, ok := strings.Cut(normalize(s), idPlace)
	if !ok || strings.Contains(after, idPlace) {
		return nameTemplate{}, fmt.Errorf("the brokers' name %q wants {id} once, where the node id goes, as in b{id}-orders.kafka.example", s)
	}
	t := nameTemplate{before, after}
	if !validName(t.name("0")) || !validName(t.name("2147483647-100")) {
		return nameTemplate{}, fmt.Errorf("the brokers' name %q is not a host name", s)
	}
	if before != "" && isDigit(before[len(before)-1]) || after != "" && isDigit(after[0]) {
		return nameTemplate{}, fmt.Errorf("the brokers' name %q has a digit beside {id}: nobody could tell where the node id ends", s)
	}
	return t, nil
}

// maxNumbers is how many numbers in a name are tried for the node id.
const maxNumbers = 16

// TemplatesOf returns the names with {id} that could make a name in lower case: with each
// number in it taken for the node id in turn, the first 16 of them.
func TemplatesOf(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for end, tried := 0, 0; tried < maxNumbers; tried++ {
			begin := end
			for begin < len(name) && !isDigit(name[begin]) {
				begin++
			}
			for end = begin; end < len(name) && isDigit(name[end]); end++ {
			}
			if begin == end || !yield(name[:begin]+idPlace+name[end:]) {
				return
			}
		}
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (t nameTemplate) String() string { return t.name(idPlace) }

func (t nameTemplate) name(id string) string { return t.before + id + t.after }

// id returns what stands in a name where the node id goes.
func (t nameTemplate) id(name string) (id string, ok bool) {
	if len(name) < len(t.before)+len(t.after) {
		return "", false
	}
	id, hasBefore := strings.CutPrefix(name, t.before)
	id, hasAfter := strings.CutSuffix(id, t.after)
	return id, hasBefore && hasAfter
}
