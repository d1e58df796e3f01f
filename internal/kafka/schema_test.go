package kafka

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestTheTableKnowsEveryVersion fails when kmsg learns a version that the
// table does not know: look its message up, and add a line.
func TestTheTableKnowsEveryVersion(t *testing.T) {
	known := map[int16]int16{
		keySaslHandshake:  1, // v0 is followed by bare tokens, v1 is not
		keyAPIVersions:    newestAPIVersions,
		keyDescribeQuorum: 2, // withheld: it tells where controllers listen
	}
	for _, s := range schemas {
		if _, ok := known[s.key]; !ok {
			known[s.key] = s.newest
		}
		if r := kmsg.ResponseForKey(s.key); s.name != kmsg.NameForKey(s.key) {
			t.Errorf("API %d is called %s here and %s there", s.key, s.name, kmsg.NameForKey(s.key))
		} else if r.SetVersion(s.flexible); !r.IsFlexible() {
			t.Errorf("%s v%d is not flexible", s.name, s.flexible)
		} else if r.SetVersion(s.flexible - 1); r.IsFlexible() && s.flexible > 0 {
			t.Errorf("%s v%d is flexible already", s.name, s.flexible-1)
		}
	}
	for key, newest := range known {
		if got := kmsg.ResponseForKey(key).MaxVersion(); got != newest {
			t.Errorf("%s: kmsg knows versions up to %d, this package up to %d", kmsg.NameForKey(key), got, newest)
		}
	}
	if slices.MaxFunc(schemas, func(a, b schema) int { return int(a.key) - int(b.key) }).key != maxKey {
		t.Errorf("maxKey is %d", maxKey)
	}
}

// notBrokers lists the fields of responses outside the table that hold an
// address or sound like it, and why no client is led past the proxy by them.
var notBrokers = map[string]string{
	"DescribeGroups.Groups.Members.ClientHost":        "the client's own address",
	"ConsumerGroupDescribe.Groups.Members.ClientHost": "the client's own address",
	"ShareGroupDescribe.Groups.Members.ClientHost":    "the client's own address",

	"DescribeACLs.Resources.ACLs.Host":               "the pattern of clients that an ACL is for",
	"DeleteACLs.Results.MatchingACLs.Host":           "the pattern of clients that an ACL is for",
	"StreamsGroupDescribe.Groups.Members.ClientHost": "the client's own address",

	"StreamsGroupDescribe.Groups.Members.UserEndpoint":            "of Kafka Streams applications, between themselves (KIP-1071)",
	"StreamsGroupDescribe.Groups.Members.UserEndpoint.Host":       "of Kafka Streams applications, between themselves (KIP-1071)",
	"StreamsGroupDescribe.Groups.Members.UserEndpoint.Port":       "of Kafka Streams applications, between themselves (KIP-1071)",
	"StreamsGroupHeartbeat.EndpointInformationEpoch":              "no address",
	"StreamsGroupHeartbeat.PartitionsByUserEndpoint":              "of Kafka Streams applications, between themselves (KIP-1071)",
	"StreamsGroupHeartbeat.PartitionsByUserEndpoint.UserEndpoint": "of Kafka Streams applications, between themselves (KIP-1071)",

	"Vote.NodeEndpoints":                  "between controllers (KIP-853)",
	"Vote.NodeEndpoints.Host":             "between controllers (KIP-853)",
	"Vote.NodeEndpoints.Port":             "between controllers (KIP-853)",
	"BeginQuorumEpoch.NodeEndpoints":      "between controllers (KIP-853)",
	"BeginQuorumEpoch.NodeEndpoints.Host": "between controllers (KIP-853)",
	"BeginQuorumEpoch.NodeEndpoints.Port": "between controllers (KIP-853)",
	"EndQuorumEpoch.NodeEndpoints":        "between controllers (KIP-853)",
	"EndQuorumEpoch.NodeEndpoints.Host":   "between controllers (KIP-853)",
	"EndQuorumEpoch.NodeEndpoints.Port":   "between controllers (KIP-853)",
	"FetchSnapshot.NodeEndpoints":         "between controllers (KIP-853)",
	"FetchSnapshot.NodeEndpoints.Host":    "between controllers (KIP-853)",
	"FetchSnapshot.NodeEndpoints.Port":    "between controllers (KIP-853)",
	"UpdateRaftVoter.CurrentLeader.Host":  "between controllers (KIP-853)",
	"UpdateRaftVoter.CurrentLeader.Port":  "between controllers (KIP-853)",
}

// TestNoOtherResponseCarriesAddresses looks through all responses that kmsg
// knows for fields that sound like addresses.
func TestNoOtherResponseCarriesAddresses(t *testing.T) {
	sounds := regexp.MustCompile(`(?i)host|port|endpoint|listener|address|server|url|uri|socket|dns|fqdn`)
	innocent := regexp.MustCompile(`Supported`) // has "port" in it
	unused := map[string]bool{}
	for name := range notBrokers {
		unused[name] = true
	}
	var look func(path string, typ reflect.Type)
	look = func(path string, typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Slice, reflect.Pointer, reflect.Array:
			look(path, typ.Elem())
		case reflect.Struct:
			for i := range typ.NumField() {
				f := typ.Field(i)
				name := path + "." + f.Name
				if sounds.MatchString(f.Name) && !innocent.MatchString(f.Name) {
					if notBrokers[name] == "" {
						t.Errorf("%s sounds like an address: put it in the table, or say in notBrokers why not", name)
					}
					delete(unused, name)
				}
				if notBrokers[name] == "" || f.Type.Kind() != reflect.Struct {
					look(name, f.Type)
				}
			}
		}
	}
	for key := range int16(kmsg.MaxKey + 1) {
		if r := kmsg.ResponseForKey(key); r != nil && lookup(key) == nil {
			look(kmsg.NameForKey(key), reflect.TypeOf(r).Elem())
		}
	}
	for name := range unused {
		t.Errorf("%s is in notBrokers, but kmsg has no such field", name)
	}
}

// TestEveryAddressOfTheTableIsWalked asks kmsg which responses in the table
// have hosts, and whether the schema of that version has them too.
func TestEveryAddressOfTheTableIsWalked(t *testing.T) {
	for _, s := range schemas {
		for version := range s.newest + 1 {
			g := newGenerator(seed(&s, version))
			has := false
			for range rounds(600) {
				has = has || len(g.message(s.key, version).written()) > 0
			}
			if walked := lookup(s.key).versions[version] != nil; walked != has {
				t.Errorf("%s v%d: kmsg writes addresses: %t; the table has some: %t", s.name, version, has, walked)
			}
		}
	}
}

// written returns the message's addresses that kmsg writes in its version.
func (m *message) written() []messageAddress {
	d, err := m.decode(m.encode())
	if err != nil {
		panic(err)
	}
	return slices.DeleteFunc(d.addresses(), func(a messageAddress) bool { return *a.host == "" })
}

func TestLoopsNestNoDeeperThanTheScannerCan(t *testing.T) {
	for _, s := range schemas {
		for version, l := range lookup(s.key).versions {
			if l == nil {
				continue
			}
			var ends []int
			for pc, o := range l.ops {
				for len(ends) > 0 && ends[len(ends)-1] <= pc {
					ends = ends[:len(ends)-1]
				}
				if o.do == opLoop {
					ends = append(ends, o.to)
				}
				if len(ends) > maxDepth {
					t.Errorf("%s v%d: %s is %d loops deep, maxDepth is %d", s.name, version, o.name, len(ends), maxDepth)
				}
			}
		}
	}
}

func TestAPINames(t *testing.T) {
	for key, want := range map[int16]string{1: "Fetch", 17: "SaslHandshake", 18: "ApiVersions", 55: "DescribeQuorum", 12: "Heartbeat", 999: "API 999", -3: "API -3"} {
		if got := apiName(key); got != want {
			t.Errorf("API %d is called %s, want %s", key, got, want)
		}
		if want := fmt.Sprintf("%s v4, offset 9: why", want); key >= 0 {
			if got := (&Error{Key: key, Version: 4, Offset: 9, Reason: "why"}).Error(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
}
