package peer

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"

	"kafka-sni-proxy/internal/harness"
)

// BrokerOptions says how the broker stand-in is to run.
type BrokerOptions struct {
	// Dir has its certificate and key.
	Dir string
	// Address is what it listens on; port 0 takes a free one.
	Address string
	// Buffer is how much it reads at once on a connection, at the most.
	Buffer int
}

// RunBroker is the broker stand-in. It writes its address to stdout, and runs
// until stdin ends.
//
// It answers every Produce at once and throws the records away. What a Fetch
// or a Metadata is answered with, the request says in the topic it names.
func RunBroker(o BrokerOptions, stdin io.Reader, stdout io.Writer) error {
	cert, err := tls.LoadX509KeyPair(filepath.Join(o.Dir, BrokerCertFile), filepath.Join(o.Dir, BrokerKeyFile))
	if err != nil {
		return err
	}
	b := &broker{
		config: &tls.Config{
			Certificates:                []tls.Certificate{cert},
			MinVersion:                  tls.VersionTLS13,
			CurvePreferences:            curves,
			DynamicRecordSizingDisabled: true,
		},
		buffer:   o.Buffer,
		produced: produced(),
		answers:  map[string][]byte{},
	}
	return harness.ServeRole(o.Address, stdin, stdout, b.serve)
}

type broker struct {
	config   *tls.Config
	buffer   int
	produced []byte

	mu      sync.Mutex
	answers map[string][]byte // by the request, but for its correlation id
}

// serve answers a connection's requests in order. An end of any kind is the
// client's affair, which knows what it has not been answered.
func (b *broker) serve(raw net.Conn) {
	c := newConn(raw, b.buffer, func(raw net.Conn) *tls.Conn { return tls.Server(raw, b.config) })
	defer c.Close()
	if err := c.Handshake(); err != nil {
		return
	}
	c.wire.gather = true
	for {
		head, err := c.in.Peek(12)
		if err != nil {
			return
		}
		size := int(binary.BigEndian.Uint32(head))
		key := int16(binary.BigEndian.Uint16(head[4:]))
		correlation := int32(binary.BigEndian.Uint32(head[inRequest:]))
		if size < 10 || size > maxBytes+1<<20 {
			return
		}
		frame := b.produced
		if key == 0 {
			_, err = c.in.Discard(4 + size)
		} else {
			frame, err = b.answer(c, size)
		}
		if err == nil {
			err = c.send(frame, inResponse, correlation)
		}
		if err != nil {
			return
		}
	}
}

func (b *broker) answer(c *conn, size int) ([]byte, error) {
	if size > 4096 {
		return nil, fmt.Errorf("%w: a request of %d bytes", errFrame, size)
	}
	request, err := c.in.Peek(4 + size)
	if err != nil {
		return nil, err
	}
	body := request[4:]
	clear(body[4:8]) // the correlation id
	b.mu.Lock()
	defer b.mu.Unlock()
	frame := b.answers[string(body)]
	if frame == nil {
		if frame, err = answer(body); err != nil {
			return nil, err
		}
		b.answers[string(body)] = frame
	}
	_, err = c.in.Discard(4 + size)
	return frame, err
}
