package main

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestHostFieldsAreFoundWhereverTheyStand(t *testing.T) {
	const definition = `// Licensed …
{
  "apiKey": 3, "type": "response", "name": "SomethingResponse", "validVersions": "0-1",
  // A comment.
  "fields": [
    { "name": "ThrottleTimeMs", "type": "int32", "versions": "0+", "about": "See https://example.org." }, // another
    { "name": "Groups", "type": "[]Group", "versions": "0+", "fields": [
      { "name": "Leader", "type": "Place", "versions": "1+" }
    ]},
    { "name": "Where", "type": "[]NodeEndpoint", "versions": "1+", "taggedVersions": "1+", "tag": 0, "fields": [
      { "name": "NodeId", "type": "int32", "versions": "1+" }
    ]}
  ],
  "commonStructs": [
    { "name": "Place", "versions": "0+", "fields": [
      { "name": "Host", "type": "string", "versions": "0+" },
      { "name": "Port", "type": "int32", "versions": "0+" }
    ]}
  ]
}`
	var m message
	if err := json.Unmarshal(withoutComments([]byte(definition)), &m); err != nil {
		t.Fatal(err)
	}
	want := []string{"Groups.Leader.Host 0+", "Groups.Leader.Port 0+", "Where 1+"}
	if got := m.hostFields(); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
