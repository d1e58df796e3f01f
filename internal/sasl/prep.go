package sasl

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
)

// SASLprep (RFC 4013) makes one text of the ways in which the same characters can
// be written, and refuses control characters. Kafka's brokers and clients do
// without: they compare the bytes. So what the proxy keeps is always prepared, and
// the same whether a client prepares or not: names and passwords for which that
// would not be true cannot be set.

// prepareName returns a user's name as it is looked up.
func prepareName(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("the name is empty")
	case len(name) > MaxName:
		return "", fmt.Errorf("the name has %d bytes: it may have %d", len(name), MaxName)
	case !utf8.ValidString(name):
		return "", errors.New("the name is not UTF-8")
	}
	prepared, err := saslprep(name)
	if err != nil {
		return "", fmt.Errorf("the name has a character that no name may have: %w", err)
	}
	if prepared == "" || len(prepared) > MaxName {
		return "", errors.New("the name is empty, or too long, once it is prepared (RFC 4013)")
	}
	return prepared, nil
}

// preparePassword returns a password as keys are derived from it. One that SASLprep
// refuses is taken as it is, as PostgreSQL does.
func preparePassword(password string) string {
	if prepared, err := saslprep(password); err == nil && prepared != "" {
		return prepared
	}
	return password
}

// saslprep is SASLprep, without its cost for plain ASCII. Its errors have nothing of
// the text in them.
func saslprep(text string) (string, error) {
	if !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return text, nil
	}
	prepared, err := stringprep.SASLprep.Prepare(text)
	if err != nil {
		var why stringprep.Error
		if errors.As(err, &why) {
			return "", errors.New(why.Msg)
		}
		return "", errors.New("SASLprep refuses it")
	}
	return prepared, nil
}

// CheckUser says what is wrong with a user's name that is to be written to a file.
func CheckUser(name string) error {
	prepared, err := prepareName(name)
	switch {
	case err != nil:
		return err
	case prepared != name:
		return fmt.Errorf("the name can be written in several ways: write it %q", prepared)
	case strings.ContainsRune(name, ':'):
		return errors.New("the name has a colon, which ends the name in the file")
	case strings.HasPrefix(name, "#"):
		return errors.New("the name begins with #, as comments do in the file")
	case strings.TrimSpace(name) != name:
		return errors.New("the name begins or ends with a space")
	}
	return nil
}

// CheckPassword says what is wrong with a password that is to be set. What it says
// has nothing of the password in it.
func CheckPassword(password Secret) error {
	text := password.Reveal()
	switch {
	case text == "":
		return errors.New("the password is empty")
	case strings.TrimSpace(text) == "":
		return errors.New("the password is nothing but spaces")
	case len(text) > MaxPassword:
		return fmt.Errorf("the password has %d bytes: it may have %d", len(text), MaxPassword)
	case !utf8.ValidString(text):
		return errors.New("the password is not UTF-8")
	}
	prepared, err := saslprep(text)
	if err != nil {
		return fmt.Errorf("the password has a character that no password may have: %w", err)
	}
	if prepared != text {
		return errors.New("the password has characters that clients write in several ways (RFC 4013): choose others")
	}
	return nil
}
