package sasl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretsArePrintedNowhere(t *testing.T) {
	const secret = "correct-horse"
	c := Credential{User: "me", Password: secret, Token: secret}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T %v"} {
		fmt.Fprintf(&out, verb+"\n", c, c)
		fmt.Fprintf(&out, verb+"\n", c.Password, &c)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "c", c, "s", c.Password)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "c", c, "s", c.Password)
	for _, trace := range []string{secret, fmt.Sprintf("%x", secret)} {
		if strings.Contains(out.String(), trace) {
			t.Errorf("%s is in\n%s", trace, out.String())
		}
	}
	if c.Password.Reveal() != secret {
		t.Error("it is lost")
	}
}
