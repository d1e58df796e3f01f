package kafka

import "math"

// This file is the table of the responses that carry broker addresses, read
// off the message definitions of Kafka 4.4 (clients/src/main/resources/common/
// message). A new API or a new version is a new line here.
//
// A schema lists the fields of a response up to its last address, or its cluster id. Flexible
// versions (KIP-482) end every structure with tagged fields; the compiler adds
// those, so the table does not show them.

// schemas, by API key. Clients are offered no version above newest, and may
// send none.
var schemas = []schema{
	{
		key: keyMetadata, name: "Metadata", newest: 13, flexible: 9, rewritten: 0,
		fields: []field{
			{name: "throttle_time_ms", is: int32Field, since: 3},
			{name: "brokers", is: arrayField, of: []field{
				{name: "node_id", is: nodeField},
				{name: "host", is: hostField},
				{name: "port", is: portField},
				{name: "rack", is: stringField, since: 1},
			}},
			{name: "cluster_id", is: clusterIDField, since: 2}, // KIP-78
		},
	},
	{
		key: keyFindCoordinator, name: "FindCoordinator", newest: 6, flexible: 3, rewritten: 0,
		fields: []field{
			{name: "throttle_time_ms", is: int32Field, since: 1},
			{name: "error_code", is: int16Field, until: 3},
			{name: "error_message", is: stringField, since: 1, until: 3},
			{name: "node_id", is: nodeField, until: 3},
			{name: "host", is: hostField, until: 3},
			{name: "port", is: portField, until: 3},
			{name: "coordinators", is: arrayField, since: 4, of: []field{ // KIP-699
				{name: "key", is: stringField},
				{name: "node_id", is: nodeField},
				{name: "host", is: hostField},
				{name: "port", is: portField},
				{name: "error_code", is: int16Field},
				{name: "error_message", is: stringField},
			}},
		},
	},
	{
		key: keyDescribeCluster, name: "DescribeCluster", newest: 2, flexible: 0, rewritten: 0,
		fields: []field{
			{name: "throttle_time_ms", is: int32Field},
			{name: "error_code", is: int16Field},
			{name: "error_message", is: stringField},
			{name: "endpoint_type", is: int8Field, since: 1}, // KIP-919
			{name: "cluster_id", is: clusterIDField},
			{name: "controller_id", is: int32Field},
			{name: "brokers", is: arrayField, of: []field{
				{name: "broker_id", is: nodeField},
				{name: "host", is: hostField},
				{name: "port", is: portField},
				{name: "rack", is: stringField},
				{name: "is_fenced", is: int8Field, since: 2}, // KIP-1073
			}},
		},
	},
	{
		key: keyProduce, name: "Produce", newest: 13, flexible: 9, rewritten: 9, tail: taggedEndpoints,
		fields: []field{
			{name: "responses", is: arrayField, of: []field{
				{name: "name", is: stringField, until: 12},
				{name: "topic_id", is: uuidField, since: 13}, // KIP-516
				{name: "partition_responses", is: arrayField, of: []field{
					{name: "index", is: int32Field},
					{name: "error_code", is: partitionErrorField},
					{name: "base_offset", is: int64Field},
					{name: "log_append_time_ms", is: int64Field, since: 2},
					{name: "log_start_offset", is: int64Field, since: 5},
					{name: "record_errors", is: arrayField, since: 8, of: []field{ // KIP-467
						{name: "batch_index", is: int32Field},
						{name: "batch_index_error_message", is: stringField},
					}},
					{name: "error_message", is: stringField, since: 8},
				}},
			}},
			{name: "throttle_time_ms", is: int32Field, since: 1},
		},
	},
	{
		key: keyFetch, name: "Fetch", newest: 18, flexible: 12, rewritten: 12, tail: taggedEndpoints,
		fields: []field{
			{name: "throttle_time_ms", is: int32Field, since: 1},
			{name: "error_code", is: int16Field, since: 7},
			{name: "session_id", is: int32Field, since: 7},
			{name: "responses", is: arrayField, of: []field{
				{name: "topic", is: stringField, until: 12},
				{name: "topic_id", is: uuidField, since: 13}, // KIP-516
				{name: "partitions", is: arrayField, of: []field{
					{name: "partition_index", is: int32Field},
					{name: "error_code", is: partitionErrorField},
					{name: "high_watermark", is: int64Field},
					{name: "last_stable_offset", is: int64Field, since: 4},
					{name: "log_start_offset", is: int64Field, since: 5},
					{name: "aborted_transactions", is: arrayField, since: 4, of: []field{
						{name: "producer_id", is: int64Field},
						{name: "first_offset", is: int64Field},
					}},
					{name: "preferred_read_replica", is: int32Field, since: 11},
					{name: "records", is: recordsField},
				}},
			}},
		},
	},
	{
		key: keyShareFetch, name: "ShareFetch", newest: 2, flexible: 0, rewritten: 0, tail: plainEndpoints, // KIP-932
		fields: []field{
			{name: "throttle_time_ms", is: int32Field},
			{name: "error_code", is: int16Field},
			{name: "error_message", is: stringField},
			{name: "acquisition_lock_timeout_ms", is: int32Field, since: 1},
			{name: "responses", is: arrayField, of: []field{
				{name: "topic_id", is: uuidField},
				{name: "partitions", is: arrayField, of: []field{
					{name: "partition_index", is: int32Field},
					{name: "error_code", is: int16Field},
					{name: "error_message", is: stringField},
					{name: "acknowledge_error_code", is: int16Field},
					{name: "acknowledge_error_message", is: stringField},
					{name: "current_leader", is: structField, of: []field{
						{name: "leader_id", is: int32Field},
						{name: "leader_epoch", is: int32Field},
					}},
					{name: "records", is: recordsField},
					{name: "acquired_records", is: arrayField, of: []field{
						{name: "first_offset", is: int64Field},
						{name: "last_offset", is: int64Field},
						{name: "delivery_count", is: int16Field},
					}},
				}},
			}},
		},
	},
	{
		key: keyShareAcknowledge, name: "ShareAcknowledge", newest: 2, flexible: 0, rewritten: 0, tail: plainEndpoints, // KIP-932
		fields: []field{
			{name: "throttle_time_ms", is: int32Field},
			{name: "error_code", is: int16Field},
			{name: "error_message", is: stringField},
			{name: "acquisition_lock_timeout_ms", is: int32Field, since: 2}, // KIP-1222
			{name: "responses", is: arrayField, of: []field{
				{name: "topic_id", is: uuidField},
				{name: "partitions", is: arrayField, of: []field{
					{name: "partition_index", is: int32Field},
					{name: "error_code", is: int16Field},
					{name: "error_message", is: stringField},
					{name: "current_leader", is: structField, of: []field{
						{name: "leader_id", is: int32Field},
						{name: "leader_epoch", is: int32Field},
					}},
				}},
			}},
		},
	},
	{
		// Version 2 tells where the controllers listen (KIP-853). Nobody can
		// reach those through the proxy, so it is not offered; versions 0 and 1
		// carry no address.
		key: keyDescribeQuorum, name: "DescribeQuorum", newest: 1, flexible: 0, rewritten: never,
	},
}

// endpoints is the array that ends the four long responses. KIP-951 made it
// tagged field 0 of Produce (10) and Fetch (16), KIP-932 a plain field of the
// share APIs. Brokers that do not look at the version when they write a tagged
// field send it in every flexible version, so it is looked for in all of them.
var endpoints = field{name: "node_endpoints", is: arrayField, of: []field{
	{name: "node_id", is: nodeField},
	{name: "host", is: hostField},
	{name: "port", is: portField},
	{name: "rack", is: stringField},
}}

// never, as a version, is above all versions.
const never = math.MaxInt16

// schema describes one API's response.
type schema struct {
	key       int16
	name      string
	newest    int16 // the newest version offered
	flexible  int16 // first version with compact types and tagged fields
	rewritten int16 // first version that carries addresses
	tail      tail
	fields    []field
}

// tail says how the addresses at the end of a response are written.
type tail int

const (
	noTail          tail = iota // the addresses are among the fields
	taggedEndpoints             // in tagged field 0 of the response
	plainEndpoints              // in a last field before the tagged fields
)

// field is one line of a schema. It is present in versions since to until;
// until 0 means that it still is.
type field struct {
	name         string
	is           fieldType
	since, until int16
	of           []field // the fields of a structure or of an array's elements
}

type fieldType int

const (
	int8Field fieldType = iota // and bool
	int16Field
	int32Field
	int64Field
	uuidField
	stringField  // nullable or not: on the wire it is one thing
	recordsField // bytes by another name
	// partitionErrorField is an int16 that errorLayouts look at.
	partitionErrorField
	// clusterIDField is a string that tells which cluster the addresses are of.
	clusterIDField
	arrayField
	structField
	// An address is these three, in this order. Host and port are neighbours.
	nodeField
	hostField
	portField
)

// schemaFor returns the schema of an API, or nil when the API carries no
// addresses in any version.
func schemaFor(key int16) *schema {
	for i := range schemas {
		if schemas[i].key == key {
			return &schemas[i]
		}
	}
	return nil
}

// maxKey is the highest key in the table; layouts is indexed by key up to it.
const maxKey = keyShareAcknowledge

// layouts holds, for each API and version in the table, how its response is
// walked; nil for versions that are forwarded as they are.
var layouts = compileAll()

// layout is a schema compiled for one version.
type layout struct {
	what         string // "request" or "response", for errors
	key, version int16
	flexible     bool
	tail         tail
	ops          []op
}

// api is what the streams need to know about one API at a glance.
type api struct {
	special  bool // the key is in the table
	newest   int16
	versions []*layout
}

func compileAll() [maxKey + 1]api {
	var all [maxKey + 1]api
	for i := range schemas {
		s := &schemas[i]
		a := api{special: true, newest: s.newest, versions: make([]*layout, s.newest+1)}
		for v := s.rewritten; v <= s.newest; v++ {
			a.versions[v] = compile(s, v)
		}
		all[s.key] = a
	}
	return all
}

// lookup returns what is known of an API, or nil when it is forwarded as it is
// in every version.
func lookup(key int16) *api {
	if key < 0 || key > maxKey || !layouts[key].special {
		return nil
	}
	return &layouts[key]
}

// compile turns the fields that a version has into a program for the scanner.
func compile(s *schema, version int16) *layout {
	c := compiler{version: version, flexible: version >= s.flexible}
	if c.flexible {
		c.tags("header tags", nil) // response header v1
	}
	c.fields("", s.fields)
	switch s.tail {
	case taggedEndpoints:
		c.emit(op{do: opTail})
		c.tags("tags", &endpoints)
	case plainEndpoints:
		c.emit(op{do: opTail})
		c.field("", endpoints)
		c.tags("tags", nil)
	}
	c.emit(op{do: opDone})
	return &layout{what: "response", key: s.key, version: version, flexible: c.flexible, tail: s.tail, ops: c.ops}
}

// produceRequests says, for each version of Produce, how a request is walked
// from behind its correlation id up to its acks.
var produceRequests = compileProduceRequests()

func compileProduceRequests() []*layout {
	all := make([]*layout, schemaFor(keyProduce).newest+1)
	for i := range all {
		version := int16(i)
		c := compiler{version: version, flexible: version >= 9}
		c.emit(op{do: opSkipSized, length: int16Length, name: "client_id"}) // never compact
		if c.flexible {
			c.tags("header tags", nil) // request header v2
		}
		if version >= 3 {
			c.field("", field{name: "transactional_id", is: stringField}) // KIP-98
		}
		c.emit(op{do: opAcks, name: "acks"})
		c.emit(op{do: opDone})
		all[i] = &layout{what: "request", key: keyProduce, version: version, flexible: c.flexible, ops: c.ops}
	}
	return all
}

// errorLayouts say, for each version of Produce and Fetch, how a response is walked from
// behind its correlation id up to its last partition's error.
var errorLayouts = [...][]*layout{keyProduce: compileErrors(keyProduce), keyFetch: compileErrors(keyFetch)}

func compileErrors(key int16) []*layout {
	s := schemaFor(key)
	all := make([]*layout, s.newest+1)
	for i := range all {
		version := int16(i)
		c := compiler{version: version, flexible: version >= s.flexible, errors: true}
		if c.flexible {
			c.tags("header tags", nil) // response header v1
		}
		c.fields("", s.fields)
		c.emit(op{do: opDone})
		all[i] = &layout{what: "response", key: key, version: version, flexible: c.flexible, ops: c.ops}
	}
	return all
}

type compiler struct {
	version  int16
	flexible bool
	errors   bool // partitions' errors are looked at
	ops      []op
}

func (c *compiler) emit(o op) int {
	c.ops = append(c.ops, o)
	return len(c.ops) - 1
}

func (c *compiler) fields(path string, fields []field) {
	for _, f := range fields {
		if c.version >= f.since && (f.until == 0 || c.version <= f.until) {
			c.field(path, f)
		}
	}
}

func (c *compiler) field(path string, f field) {
	name := path + f.name
	switch f.is {
	case int8Field:
		c.skip(name, 1)
	case int16Field:
		c.skip(name, 2)
	case partitionErrorField:
		if c.errors {
			c.emit(op{do: opError, name: name})
		} else {
			c.skip(name, 2)
		}
	case int32Field:
		c.skip(name, 4)
	case int64Field:
		c.skip(name, 8)
	case uuidField:
		c.skip(name, 16)
	case stringField, recordsField:
		c.emit(op{do: opSkipSized, length: c.length(f.is), name: name})
	case clusterIDField:
		c.emit(op{do: opClusterID, length: c.length(f.is), name: name})
	case nodeField:
		c.emit(op{do: opNode, name: name})
	case hostField:
		c.emit(op{do: opHost, length: c.length(f.is), name: name})
	case portField:
		c.emit(op{do: opPort, name: name})
	case structField:
		c.structure(name+".", f.of)
	case arrayField:
		start := c.emit(op{do: opLoop, length: c.length(f.is), name: name})
		c.structure(name+".", f.of)
		c.emit(op{do: opNext})
		c.ops[start].to = len(c.ops)
	}
}

func (c *compiler) structure(path string, fields []field) {
	c.fields(path, fields)
	if c.flexible {
		c.tags(path+"tags", nil)
	}
}

// skip passes over n bytes, together with those of the field before if that
// one is of fixed length too.
func (c *compiler) skip(name string, n int) {
	if last := len(c.ops) - 1; last >= 0 && c.ops[last].do == opSkip {
		c.ops[last].n += n
		return
	}
	c.emit(op{do: opSkip, n: n, name: name})
}

// tags passes over a section of tagged fields: a count, then for each a tag, a
// size and that many bytes. Field 0 is walked when it is known.
func (c *compiler) tags(name string, zero *field) {
	start := c.emit(op{do: opLoop, length: uvarintCount, name: name})
	c.emit(op{do: opTag, name: name})
	size := c.emit(op{do: opTagSize, name: name})
	c.ops[size].to = size + 1
	if zero != nil {
		c.ops[size].known = true
		c.field("", *zero)
		c.emit(op{do: opTagEnd, name: name})
		c.ops[size].to = len(c.ops)
	}
	c.emit(op{do: opNext})
	c.ops[start].to = len(c.ops)
}

// length returns how the length of a string, records or array is written.
func (c *compiler) length(is fieldType) length {
	switch {
	case c.flexible:
		return uvarintPlusOne
	case is == arrayField || is == recordsField:
		return int32Length
	default:
		return int16Length
	}
}
