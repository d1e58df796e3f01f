package tlswire

import "golang.org/x/crypto/cryptobyte"

const (
	typeHandshake   = 22 // of a record
	typeClientHello = 1  // of a handshake message
	extServerName   = 0  // RFC 6066, 3
	nameTypeHost    = 0
)

// HelloServerName returns the server name (SNI) of a ClientHello that was read last,
// exactly as it was sent. It is for a hello that crypto/tls has refused before it told
// anyone the name: one that ends with a dot, say. It returns "" where none is found.
func (c *Conn) HelloServerName() string { return string(helloServerName(c.wire.in[:c.wire.w])) }

// helloServerName reads the name from the TLS records that begin with a ClientHello.
func helloServerName(records []byte) []byte {
	hello := handshakeMessage(records, typeClientHello)
	var version uint16
	var session, suites, compression, extensions cryptobyte.String
	if !hello.ReadUint16(&version) || !hello.Skip(32) || !hello.ReadUint8LengthPrefixed(&session) ||
		!hello.ReadUint16LengthPrefixed(&suites) || !hello.ReadUint8LengthPrefixed(&compression) ||
		!hello.ReadUint16LengthPrefixed(&extensions) {
		return nil
	}
	for !extensions.Empty() {
		var extension uint16
		var data, names cryptobyte.String
		if !extensions.ReadUint16(&extension) || !extensions.ReadUint16LengthPrefixed(&data) {
			return nil
		}
		if extension != extServerName || !data.ReadUint16LengthPrefixed(&names) {
			continue
		}
		for !names.Empty() {
			var nameType uint8
			var name cryptobyte.String
			if !names.ReadUint8(&nameType) || !names.ReadUint16LengthPrefixed(&name) {
				return nil
			}
			if nameType == nameTypeHost {
				return name
			}
		}
	}
	return nil
}

// handshakeMessage returns the body of the first handshake message in the records,
// nil unless it is there as a whole and of that type.
func handshakeMessage(records cryptobyte.String, want uint8) cryptobyte.String {
	var message cryptobyte.String
	for !records.Empty() {
		var recordType uint8
		var version uint16
		var fragment cryptobyte.String
		if !records.ReadUint8(&recordType) || recordType != typeHandshake || !records.ReadUint16(&version) ||
			!records.ReadUint16LengthPrefixed(&fragment) {
			break
		}
		message = append(message, fragment...)
	}
	var messageType uint8
	var body cryptobyte.String
	if !message.ReadUint8(&messageType) || messageType != want || !message.ReadUint24LengthPrefixed(&body) {
		return nil
	}
	return body
}
