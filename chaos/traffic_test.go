package main

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What a reader may be given in the place of record 5 of partition 2, when 4 was
// the last.
func TestEverythingThatIsNotTheNextRecordIsFound(t *testing.T) {
	damaged := value(2, 5)
	damaged[len(damaged)-1] ^= 1
	tests := []struct {
		name             string
		reader           int
		offset           int64
		value            []byte
		lost, duplicated int
		problem          bool
	}{
		{"the next one", direct, 5, value(2, 5), 0, 0, false},
		{"one that is damaged", direct, 5, damaged, 0, 0, true},
		{"that of another partition", direct, 5, value(1, 5), 0, 0, true},
		{"two missing from the log", direct, 5, value(2, 7), 2, 0, true},
		{"two skipped", direct, 7, value(2, 7), 2, 0, true},
		{"one that is in the log again", direct, 5, value(2, 4), 0, 1, true},
		{"one again", direct, 4, value(2, 4), 0, 1, true},
		{"one again, to the group", grouped, 4, value(2, 4), 0, 0, false},
		{"two skipped by the group", grouped, 7, value(2, 7), 2, 0, true},
	}
	for _, test := range tests {
		tr := &traffic{problems: &problems{found: make(chan struct{})}}
		tr.parts[2].read = [readers]int64{5, 5}
		tr.check(&kgo.Record{Partition: 2, Offset: test.offset, Value: test.value}, test.reader)
		if tr.lost != test.lost || tr.duplicated != test.duplicated || tr.problems.any() != test.problem {
			t.Errorf("%s: %d lost, %d duplicated, problems: %q", test.name, tr.lost, tr.duplicated, tr.problems.list)
		}
	}
}

func TestAcknowledgementsMustComeInOrderAndForTheRightPlace(t *testing.T) {
	tests := []struct {
		name      string
		n, offset int64
		err       error
		problem   bool
	}{
		{"the next", 5, 5, nil, false},
		{"out of order", 6, 6, nil, true},
		{"a place too early", 5, 4, nil, true},
		{"a place too late", 5, 6, nil, true},
		{"given up", 5, 0, errors.New("no"), true},
	}
	for _, test := range tests {
		tr := &traffic{problems: &problems{found: make(chan struct{})}, ending: t.Context()}
		tr.parts[2].acked = 5
		tr.acknowledged(2, test.n, &kgo.Record{Partition: 2, Offset: test.offset}, test.err)
		if tr.problems.any() != test.problem || (tr.parts[2].acked == 6) == test.problem {
			t.Errorf("%s: problems: %q, next: %d", test.name, tr.problems.list, tr.parts[2].acked)
		}
	}
}

// What comes after a record that was given up is not where it should be, and is
// not lost for that.
func TestRecordGivenUpIsOneProblem(t *testing.T) {
	tr := &traffic{problems: &problems{found: make(chan struct{})}, ending: t.Context()}
	tr.acknowledged(2, 0, nil, errors.New("no"))
	tr.acknowledged(2, 1, &kgo.Record{Partition: 2, Offset: 0}, nil)
	tr.check(&kgo.Record{Partition: 2, Offset: 0, Value: value(2, 1)}, direct)
	if len(tr.problems.list) != 1 || tr.lost != 0 {
		t.Errorf("%d lost, problems: %q", tr.lost, tr.problems.list)
	}
}

func TestRecordsDifferFromEachOther(t *testing.T) {
	seen := map[string]bool{}
	for p := range int32(partitions) {
		for n := range int64(300) {
			v := value(p, n)
			if !bytes.Equal(v, value(p, n)) || seen[string(v)] {
				t.Fatalf("record %d of partition %d is not its own", n, p)
			}
			seen[string(v)] = true
		}
	}
}

func TestDocumentListsEveryFault(t *testing.T) {
	text, err := os.ReadFile("../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		if !regexp.MustCompile(`\| ` + f.name + ` +\|.*\| ` + regexp.QuoteMeta(f.what) + ` \|`).Match(text) {
			t.Errorf("docs/reliability.md does not tell of %s: %s", f.name, f.what)
		}
	}
}

func TestFaultsHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range faults {
		if seen[f.name] || f.what == "" || f.inject == nil || !regexp.MustCompile(`^(client|broker|proxy|[a-z]+)-[a-z-]+$`).MatchString(f.name) {
			t.Errorf("%+v", f)
		}
		seen[f.name] = true
	}
}
