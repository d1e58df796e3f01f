package main

import (
	"archive/zip"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// knownHostFields lists every response field of Kafka's that may hold an
// address, one a line:
//
//	<API key> <response> <versions> <listeners> <field> <versions of the field>  <what the proxy does about it>
//
// Listeners are those on which the request is served: an API that brokers do
// not serve is never seen by a proxy of brokers.
//
//go:embed host-fields.txt
var knownHostFields string

// hostFields compares that list with the message definitions inside the newest
// Java client. An API, a version or a field that is new fails the run, until
// somebody has looked at it.
func hostFields(_ context.Context, s *scenarioRun) (string, error) {
	jar := filepath.Join(s.java.software.clients, "kafka-clients-"+clientVersion+".jar")
	found, err := hostFieldsIn(jar)
	if err != nil {
		return "", err
	}
	var known []string
	for line := range strings.Lines(knownHostFields) {
		if field, treatment, _ := strings.Cut(strings.TrimSpace(line), "  "); field != "" && !strings.HasPrefix(field, "#") {
			if treatment == "" {
				return "", fmt.Errorf("host-fields.txt does not say what is done about %q", field)
			}
			known = append(known, field)
		}
	}
	var problems []error
	for _, field := range found {
		if !slices.Contains(known, field) {
			problems = append(problems, fmt.Errorf("not in host-fields.txt: %s", field))
		}
	}
	for _, field := range known {
		if !slices.Contains(found, field) {
			problems = append(problems, fmt.Errorf("no longer in kafka-clients %s: %s", clientVersion, field))
		}
	}
	return fmt.Sprintf("%d fields in the responses of kafka-clients %s, all known", len(found), clientVersion), errors.Join(problems...)
}

// message is one of Kafka's message definitions.
type message struct {
	APIKey        int             `json:"apiKey"`
	Type          string          `json:"type"`
	Name          string          `json:"name"`
	Listeners     []string        `json:"listeners"` // requests only
	ValidVersions string          `json:"validVersions"`
	Fields        []messageField  `json:"fields"`
	CommonStructs []messageStruct `json:"commonStructs"`
}

type messageField struct {
	Name     string         `json:"name"`
	Type     string         `json:"type"`
	Versions string         `json:"versions"`
	Fields   []messageField `json:"fields"`
}

type messageStruct struct {
	Name   string         `json:"name"`
	Fields []messageField `json:"fields"`
}

// hostFieldsIn returns the fields as they stand in knownHostFields.
func hostFieldsIn(jar string) ([]string, error) {
	archive, err := zip.OpenReader(jar)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	listeners := map[int][]string{}
	var responses []message
	for _, file := range archive.File {
		if matched, _ := path.Match("common/message/*.json", file.Name); !matched {
			continue
		}
		m, err := readMessage(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name, err)
		}
		switch m.Type {
		case "request":
			listeners[m.APIKey] = m.Listeners
		case "response":
			responses = append(responses, m)
		}
	}
	if len(responses) < 50 {
		return nil, fmt.Errorf("%s defines only %d responses: have the definitions moved?", jar, len(responses))
	}
	slices.SortFunc(responses, func(a, b message) int { return a.APIKey - b.APIKey })
	var found []string
	for _, m := range responses {
		prefix := fmt.Sprintf("%d %s %s %s", m.APIKey, strings.TrimSuffix(m.Name, "Response"), m.ValidVersions, strings.Join(listeners[m.APIKey], ","))
		for _, field := range m.hostFields() {
			found = append(found, prefix+" "+field)
		}
	}
	return found, nil
}

func readMessage(file *zip.File) (message, error) {
	var m message
	r, err := file.Open()
	if err != nil {
		return m, err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(withoutComments(text), &m)
}

// stringOrComment matches a string, so that what looks like a comment inside
// one is left alone, or a comment up to the end of its line.
var stringOrComment = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|//[^\n]*`)

func withoutComments(text []byte) []byte {
	return stringOrComment.ReplaceAllFunc(text, func(match []byte) []byte {
		if match[0] == '/' {
			return nil
		}
		return match
	})
}

// likeAnAddress is how Kafka names fields that tell where something listens.
var likeAnAddress = regexp.MustCompile(`(?i)host|port$|endpoint|listener|address|ur[il]$`)

func (m message) hostFields() []string {
	structs := map[string][]messageField{}
	for _, s := range m.CommonStructs {
		structs[s.Name] = s.Fields
	}
	var found []string
	var walk func(fields []messageField, path string)
	walk = func(fields []messageField, path string) {
		for _, f := range fields {
			name := strings.TrimPrefix(f.Type, "[]")
			if likeAnAddress.MatchString(f.Name) || likeAnAddress.MatchString(name) {
				found = append(found, path+f.Name+" "+f.Versions)
			}
			walk(append(f.Fields, structs[name]...), path+f.Name+".")
		}
	}
	walk(m.Fields, "")
	return found
}
