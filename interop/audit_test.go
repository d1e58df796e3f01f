package main

import (
	"strings"
	"testing"
)

func TestTallyNoticesLostAndRepeatedRecords(t *testing.T) {
	for _, test := range []struct {
		name, records, problem string
	}{
		{"all", "a:0: a:1: b:0: a:2:", ""},
		{"lost", "a:0: a:2: b:0:", "lost record 1 of 3 from a"},
		{"repeated", "a:0: a:1: b:0: a:1: a:2:", "4 records were sent, 5 are in the log"},
		{"of nobody", "a:0: a:1: b:0: a:2: c:0:", "4 records were sent, 5 are in the log"},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := newTally()
			for value := range strings.FieldsSeq(test.records) {
				if err := log.add([]byte(value)); err != nil {
					t.Fatal(err)
				}
			}
			err := log.exactly(map[string]int64{"a": 3, "b": 1})
			if test.problem == "" && err != nil || test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)) {
				t.Errorf("got %v, want %q", err, test.problem)
			}
		})
	}
}
