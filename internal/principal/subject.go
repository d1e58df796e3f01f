package principal

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// keywords are the attributes that RFC 2253 has names for. Others are written by their numbers.
var keywords = map[string]string{
	"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET", "2.5.4.10": "O", "2.5.4.11": "OU",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

// attribute is an attribute type and its value, as in X.501.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

type attributesSET []attribute

// Subject returns a distinguished name in DER as a text: in the form of RFC 2253, as Java's
// X500Principal.getName() writes it, and so brokers without rules.
func Subject(der []byte) (string, error) {
	var sequence []attributesSET
	rest, err := asn1.Unmarshal(der, &sequence)
	if err != nil || len(rest) > 0 {
		return "", errors.New("the certificate's subject is not well formed")
	}
	var b strings.Builder
	for i := len(sequence) - 1; i >= 0; i-- { // the last one comes first
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		for j, a := range sequence[i] {
			if j > 0 {
				b.WriteByte('+')
			}
			writeAttribute(&b, a)
		}
	}
	return b.String(), nil
}

func writeAttribute(b *strings.Builder, a attribute) {
	keyword, known := keywords[a.Type.String()]
	if known && isText(a.Value) {
		b.WriteString(keyword + "=")
		b.WriteString(escape(string([]rune(string(a.Value.Bytes)))))
		return
	}
	if !known {
		keyword = a.Type.String()
	}
	fmt.Fprintf(b, "%s=#%s", keyword, hex.EncodeToString(a.Value.FullBytes))
}

// isText reports whether a value is of a type that is text, to Java.
func isText(v asn1.RawValue) bool {
	if v.Class != asn1.ClassUniversal {
		return false
	}
	const generalString = 27
	switch v.Tag {
	case asn1.TagPrintableString, asn1.TagUTF8String, asn1.TagT61String, asn1.TagIA5String, generalString, asn1.TagBMPString:
		return true
	}
	return false
}

// escape escapes a value, as RFC 2253 wants it, and = and # as well.
func escape(value string) string {
	runes := []rune(value)
	first, last := 0, len(runes)-1
	isBlank := func(c rune) bool { return c == ' ' || c == '\r' }
	for first < len(runes) && isBlank(runes[first]) {
		first++
	}
	for last >= 0 && isBlank(runes[last]) {
		last--
	}
	var b strings.Builder
	for i, c := range runes {
		switch {
		case c == 0:
			b.WriteString(`\00`)
			continue
		case strings.ContainsRune(`,=+<>#;"\`, c), i < first, i > last:
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}
