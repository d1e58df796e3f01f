package tlswire

import (
	"crypto/tls"
	"errors"
	"net"
	"reflect"
)

// The alert protocol (RFC 8446, 6).
const (
	typeAlert  = 21 // of a record
	levelFatal = 2

	alertCloseNotify      = 0
	AlertUnrecognizedName = tls.AlertError(112) // RFC 6066, 3

	noAlert = -1
)

// remoteError is what crypto/tls has in Op of the [net.OpError] for an alert from
// the peer.
const remoteError = "remote error"

// noteAlert notes an alert that is not encrypted, given a record. An encrypted one
// is longer, or is not of that type.
func (w *wire) noteAlert(record []byte) {
	if len(record) == recordHeader+2 && record[0] == typeAlert {
		w.alert = int16(record[recordHeader+1])
	}
}

// RemoteAlert returns the alert from the peer that err is about, if it is about one.
func RemoteAlert(err error) (tls.AlertError, bool) {
	var op *net.OpError
	for errors.As(err, &op) {
		if op.Op == remoteError {
			// The type in crypto/tls is not exported; its kind is documented by RFC 8446.
			if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
				return tls.AlertError(v.Uint()), true
			}
		}
		err = op.Err
	}
	return 0, false
}

// Refuse sends a fatal alert without encryption, before or in the handshake, and
// drops whatever is written after it. crypto/tls would send internal_error for an
// error of GetConfigForClient, which tells a client's user nothing.
func (c *Conn) Refuse(alert tls.AlertError) {
	c.wire.refuse([]byte{typeAlert, 3, 3, 0, 2, levelFatal, byte(alert)})
}
