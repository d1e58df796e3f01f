package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// witness reads what a tap passes on: which versions of Produce and Fetch
// each client uses, and how the proxy told it of new leaders. Not every client
// writes that down itself.
type witness struct {
	mu       sync.Mutex
	seen     map[string]*seen // by client id and API, "librdkafka Fetch"
	problems []error
}

// seen is what became of one client's requests of one API.
type seen struct {
	version int16
	whole   int // answers that had our address of a new leader, kept until complete
	inPlace int // longer ones that had it
	padded  int // those of them with unknown tags in the space that is left
	leftOut int // answers that told of a new leader without its address
}

// longest is how long an answer may be to be rewritten whole (docs/rewriting.md).
const longest = 32 << 10

func newWitness() *witness { return &witness{seen: map[string]*seen{}} }

// conversation is one connection. Requests have to be written to it before
// they are sent on.
func (w *witness) conversation() (requests, responses *frames) {
	c := &conversation{witness: w, asked: map[int32]asked{}}
	return &frames{take: c.request}, &frames{take: c.response}
}

type conversation struct {
	witness *witness
	mu      sync.Mutex
	asked   map[int32]asked // by correlation id
}

type asked struct {
	key, version int16
	client       string
}

func (c *conversation) request(frame []byte) {
	if len(frame) < 10 {
		return
	}
	a := asked{key: int16(binary.BigEndian.Uint16(frame)), version: int16(binary.BigEndian.Uint16(frame[2:]))}
	if a.key != kmsg.Produce.Int16() && a.key != kmsg.Fetch.Int16() {
		return
	}
	if n := int(int16(binary.BigEndian.Uint16(frame[8:]))); n > 0 && len(frame) >= 10+n {
		a.client = string(frame[10 : 10+n])
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[int32(binary.BigEndian.Uint32(frame[4:]))] = a
}

func (c *conversation) response(frame []byte) {
	if len(frame) < 4 {
		return
	}
	correlation := int32(binary.BigEndian.Uint32(frame))
	c.mu.Lock()
	a, ok := c.asked[correlation]
	delete(c.asked, correlation)
	c.mu.Unlock()
	if !ok {
		return
	}
	message := kmsg.ResponseForKey(a.key)
	message.SetVersion(a.version)
	body := frame[4:]
	if message.IsFlexible() && len(body) > 0 {
		body = body[1:] // no tagged fields in the header
	}
	err := message.ReadFrom(body)
	w := c.witness
	w.mu.Lock()
	defer w.mu.Unlock()
	name := a.client + " " + kmsg.NameForKey(a.key)
	if err != nil {
		w.problems = append(w.problems, fmt.Errorf("an answer of %d bytes to %s %d cannot be decoded: %w", len(frame), name, a.version, err))
		return
	}
	if w.seen[name] == nil {
		w.seen[name] = &seen{}
	}
	w.problems = append(w.problems, w.seen[name].add(a.version, len(frame), leadersIn(message)))
}

// toldOf is what an answer says of new leaders.
type toldOf struct {
	leaders int // partitions that have a new one
	hosts   []string
	tags    int // unknown ones, at the end
}

func leadersIn(message kmsg.Response) (t toldOf) {
	moved := func(code int16, leader int32) {
		if (code == 6 || code == 74) && leader >= 0 { // NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH
			t.leaders++
		}
	}
	switch m := message.(type) {
	case *kmsg.ProduceResponse:
		for _, topic := range m.Topics {
			for _, p := range topic.Partitions {
				moved(p.ErrorCode, p.CurrentLeader.LeaderID)
			}
		}
		for _, b := range m.Brokers {
			t.hosts = append(t.hosts, b.Host)
		}
		t.tags = m.UnknownTags.Len()
	case *kmsg.FetchResponse:
		for _, topic := range m.Topics {
			for _, p := range topic.Partitions {
				moved(p.ErrorCode, p.CurrentLeader.LeaderID)
			}
		}
		for _, b := range m.Brokers {
			t.hosts = append(t.hosts, b.Host)
		}
		t.tags = m.UnknownTags.Len()
	}
	return t
}

func (s *seen) add(version int16, length int, t toldOf) error {
	s.version = version
	for _, host := range t.hosts {
		if !strings.HasSuffix(host, "."+suffix) {
			return fmt.Errorf("%q is told as the address of a new leader", host)
		}
	}
	switch {
	case len(t.hosts) > 0 && length <= longest:
		s.whole++
	case len(t.hosts) > 0:
		s.inPlace++
		if t.tags > 0 {
			s.padded++
		}
	case t.leaders > 0:
		s.leftOut++
	}
	return nil
}

// of returns a copy of what was seen of one client and API.
func (w *witness) of(client, api string) seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.seen[client+" "+api]; s != nil {
		return *s
	}
	return seen{version: -1}
}

// err returns what should not have been seen.
func (w *witness) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.problems...)
}

// String is one line for each client and API.
func (w *witness) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(w.seen)) {
		s := w.seen[name]
		lines = append(lines, fmt.Sprintf("  %-20s version %2d; new leaders: %d answers rewritten whole, %d in place (%d of them padded), %d without the address",
			name, s.version, s.whole, s.inPlace, s.padded, s.leftOut))
	}
	return strings.Join(lines, "\n")
}

// frames is a Writer that takes a stream of length-prefixed frames apart,
// however it is cut.
type frames struct {
	take    func(frame []byte)
	pending []byte
}

func (f *frames) Write(p []byte) (int, error) {
	f.pending = append(f.pending, p...)
	rest := f.pending
	for len(rest) >= 4 {
		end := 4 + int(binary.BigEndian.Uint32(rest))
		if len(rest) < end {
			break
		}
		f.take(rest[4:end])
		rest = rest[end:]
	}
	f.pending = append(f.pending[:0], rest...)
	return len(p), nil
}
