package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/sasl"
	"kafka-sni-proxy/internal/tlswire"
)

const (
	// maxLoginMessages is how many messages a broker may want, and maxLoginMessage how long its
	// answers may be, in bytes.
	maxLoginMessages = 16
	maxLoginMessage  = 64 << 10
)

// LogIn lets the proxy in at a broker, before anything else is sent: SaslHandshake, and
// SaslAuthenticate for each message of the mechanism (KIP-152). It returns for how long the
// connection may go on before it has to log in again (KIP-368); 0: for ever. A
// [*kafka.LoginError] is of a broker that refuses. The caller sets the deadline.
func LogIn(conn *tlswire.Conn, exchange sasl.Client) (lifetime time.Duration, err error) {
	in := Frames{Conn: conn, Most: maxLoginMessage}
	lifetime, err = LogInBy(func(request []byte) ([]byte, error) {
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		return in.Next()
	}, exchange)
	if err == nil && len(in.Rest()) > 0 {
		err = errors.New("the broker sent more than it was asked for")
	}
	return lifetime, err
}

// LogInBy is LogIn over any connection: ask sends a request, with its length, and returns the
// response without.
func LogInBy(ask func(request []byte) ([]byte, error), exchange sasl.Client) (lifetime time.Duration, err error) {
	answer, err := ask(kafka.AskHandshake(0, exchange.Mechanism()))
	if err == nil {
		err = kafka.ReadHandshake(answer, 0)
	}
	var challenge []byte
	for correlation, done := int32(1), false; err == nil && !done; correlation++ {
		var message []byte
		if message, done, err = exchange.Next(challenge); err != nil || done && message == nil {
			break
		}
		var ms int64
		if answer, err = ask(kafka.AskAuthenticate(correlation, message)); err == nil {
			challenge, ms, err = kafka.ReadAuthenticate(answer, correlation)
			lifetime = time.Duration(ms) * time.Millisecond
		}
		if correlation > maxLoginMessages {
			err = fmt.Errorf("the broker is not done after %d messages", maxLoginMessages)
		}
	}
	return lifetime, err
}

// Frames reads one frame after the other.
type Frames struct {
	Conn *tlswire.Conn
	Most int    // bytes, of a frame without its length
	buf  []byte // that has come and is not read
}

// need has n bytes in buf.
func (f *Frames) need(n int) error {
	for len(f.buf) < n {
		p := f.Conn.Next()
		if p == nil {
			if err := f.Conn.Await(); err != nil {
				return err
			}
			continue
		}
		f.buf = append(f.buf, p...)
	}
	return nil
}

// Key returns the API key of the next frame, whatever its length.
func (f *Frames) Key() (int16, error) {
	if err := f.need(6); err != nil {
		return 0, err
	}
	return int16(binary.BigEndian.Uint16(f.buf[4:])), nil
}

// Next returns the next frame, without its length. It is valid until the next call.
func (f *Frames) Next() ([]byte, error) {
	if err := f.need(4); err != nil {
		return nil, err
	}
	size := int64(int32(binary.BigEndian.Uint32(f.buf)))
	if size < 0 || size > int64(f.Most) {
		return nil, fmt.Errorf("a message of %d bytes: want up to %d", size, f.Most)
	}
	n := 4 + int(size)
	if err := f.need(n); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	frame := f.buf[4:n:n]
	f.buf = f.buf[n:]
	return frame, nil
}

// Rest returns what has come behind the frames that were read.
func (f *Frames) Rest() []byte {
	for p := f.Conn.Next(); p != nil; p = f.Conn.Next() {
		f.buf = append(f.buf, p...)
	}
	return f.buf
}

// logIn logs the proxy in for a question of its own.
func (c *Cluster) logIn(ctx context.Context, broker *tlswire.Conn, at route.Address) error {
	if c.config.Login == nil {
		return nil
	}
	exchange, err := c.config.Login(ctx, at)
	if err != nil || exchange == nil {
		return err
	}
	_, err = LogIn(broker, exchange)
	return err
}
