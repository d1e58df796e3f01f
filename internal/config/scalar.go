package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// isScalar reports whether a setting is written as one text.
func isScalar(v reflect.Value) bool {
	if _, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return true
	}
	switch v.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64:
		return true
	}
	return false
}

// scalar reads a setting that is one text.
func (r *reader) scalar(n *yaml.Node, to reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		r.errorf(n, path, "this is %s, and should be one value", kinds[n.Kind])
		return
	}
	if isSecret(to.Type()) && !strings.HasPrefix(n.Value, secretFile) {
		r.file.hide(n)
	}
	text, err := r.expand(n.Value)
	if err != nil {
		if strings.HasSuffix(path, ".broker-mapping-rule") {
			err = fmt.Errorf("%w; if a group of the rule is meant, write $${…}", err)
		}
		r.errorf(n, path, "%v", err)
		return
	}
	if err := r.set(to, text); err != nil {
		r.errorf(n, path, "%v", err)
	}
}

// isSecret reports whether what a setting has must not be shown.
func isSecret(t reflect.Type) bool {
	return t == reflect.TypeFor[Secret]() || t == reflect.TypeFor[Template]()
}

// secretFile begins a secret that is in a file of its own.
const secretFile = "file:"

// set gives a setting the value that a text stands for.
func (r *reader) set(to reflect.Value, text string) error {
	switch v := to.Addr().Interface().(type) {
	case *Secret:
		secret, err := r.secret(text)
		*v = secret
		return err
	case *time.Duration:
		d, err := ParseDuration(text)
		*v = d
		return err
	case encoding.TextUnmarshaler:
		return v.UnmarshalText([]byte(text))
	}
	switch to.Kind() {
	case reflect.String:
		to.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		to.SetBool(text == "true")
	default:
		n, err := strconv.ParseInt(text, 10, to.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		to.SetInt(n)
	}
	return nil
}

// ParseDuration reads a duration, such as 30s. The error says how to write it.
func ParseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil {
		return d, nil
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return 0, fmt.Errorf("%q needs a unit: %ss for seconds, %sm for minutes", text, text, text)
	}
	return 0, fmt.Errorf("%q is not a duration: write it like 30s, 10m or 1h30m", text)
}

// secret returns a secret, which may be in a file of its own.
func (r *reader) secret(text string) (Secret, error) {
	path, isFile := strings.CutPrefix(text, secretFile)
	if !isFile {
		return Secret(text), nil
	}
	r.file.SecretFiles = append(r.file.SecretFiles, path)
	content, err := r.env.ReadFile(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("the secret's file cannot be read: %w", err)
	case len(content) > maxSecret:
		return "", fmt.Errorf("the secret's file %s is longer than %d bytes: that is no secret", path, maxSecret)
	}
	secret := strings.TrimRight(string(content), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("the secret's file %s is empty", path)
	}
	return Secret(secret), nil
}

// Principal is what is a client's principal between ${ and }, where a setting is for each of
// them. The environment has no such variable.
const Principal = "principal"

// expand puts in the values of variables.
func (r *reader) expand(text string) (string, error) {
	var b strings.Builder
	for {
		at := strings.Index(text, "${")
		if at < 0 {
			b.WriteString(text)
			return b.String(), nil
		}
		if at > 0 && text[at-1] == '$' { // $${
			b.WriteString(text[:at-1] + "${")
			text = text[at+2:]
			continue
		}
		inside, rest, closed := strings.Cut(text[at+2:], "}")
		name, fallback, hasFallback := strings.Cut(inside, ":-")
		if !closed || !isVariable(name) || inside == Principal { // such as ${1} in a rule
			b.WriteString(text[:at+2])
			text = text[at+2:]
			continue
		}
		value, set := r.env.Lookup(name)
		switch {
		case value == "" && hasFallback:
			value = fallback
		case !set:
			return "", fmt.Errorf("the environment variable %s is not set: set it, or write ${%s:-default}", name, name)
		}
		b.WriteString(text[:at] + value)
		text = rest
	}
}

// escape returns the text that expand makes another one of.
func escape(text string) string {
	var b strings.Builder
	for {
		at := strings.Index(text, "${")
		if at < 0 {
			b.WriteString(text)
			return b.String()
		}
		inside, _, closed := strings.Cut(text[at+2:], "}")
		name, _, _ := strings.Cut(inside, ":-")
		b.WriteString(text[:at])
		if closed && isVariable(name) && inside != Principal || at > 0 && text[at-1] == '$' {
			b.WriteByte('$')
		}
		b.WriteString("${")
		text = text[at+2:]
	}
}

// isVariable reports whether an environment variable can have a name.
func isVariable(name string) bool {
	for i, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
