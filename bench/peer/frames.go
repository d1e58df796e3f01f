package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Kind is what a request asks for.
type Kind string

// The requests that the load client can send.
const (
	ApiVersions Kind = "ApiVersions"
	Metadata    Kind = "Metadata"
	Heartbeat   Kind = "Heartbeat"
	Produce     Kind = "Produce"
	Fetch       Kind = "Fetch"
)

// Request describes a request and, with it, its response.
type Request struct {
	Kind Kind
	// Bytes is how many bytes of records it carries (Produce) or asks for
	// (Fetch), over all partitions.
	Bytes int
	// Partitions is how many partitions those are spread over.
	Partitions int
	// Brokers is how many brokers the response is to name (Metadata).
	Brokers int
}

// Where correlation ids are in frames.
const (
	inRequest  = 8
	inResponse = 4
)

// The versions in use: the newest of Kafka 4, whose responses may carry
// addresses.
const (
	apiVersionsVersion = 3
	metadataVersion    = 13
	heartbeatVersion   = 4
	produceVersion     = 13
	fetchVersion       = 18
)

const (
	// maxBytes and maxPartitions bound what a request may have the stand-in do.
	maxBytes      = 64 << 20
	maxPartitions = 100_000
	maxBrokers    = 100_000
)

// frame encodes the request.
func (r Request) frame() ([]byte, error) {
	var req kmsg.Request
	switch r.Kind {
	case ApiVersions:
		q := kmsg.NewPtrApiVersionsRequest()
		q.Version = apiVersionsVersion
		q.ClientSoftwareName, q.ClientSoftwareVersion = "bench", "1"
		req = q
	case Metadata:
		// The stand-in has every topic that is asked for; its name says how many
		// brokers there are.
		q := kmsg.NewPtrMetadataRequest()
		q.Version = metadataVersion
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(brokersPrefix + strconv.Itoa(r.Brokers))
		q.Topics = append(q.Topics, t)
		req = q
	case Heartbeat:
		q := kmsg.NewPtrHeartbeatRequest()
		q.Version = heartbeatVersion
		q.Group, q.Generation, q.MemberID = "bench", 1, "bench-0b1f4c3e-6f5f-4f0e-9a3c-3d8d3f0f7a51"
		req = q
	case Produce:
		q := kmsg.NewPtrProduceRequest()
		q.Version = produceVersion
		q.Acks, q.TimeoutMillis = -1, 30_000
		t := kmsg.NewProduceRequestTopic()
		t.TopicID = topicID(r.Partitions, r.Bytes)
		for i := range r.Partitions {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition = int32(i)
			p.Records = recordBatch(r.Bytes / r.Partitions)
			t.Partitions = append(t.Partitions, p)
		}
		q.Topics = append(q.Topics, t)
		req = q
	case Fetch:
		// One partition stands for all in the request: a consumer's fetch session
		// (KIP-227) does not name them again and again either.
		q := kmsg.NewPtrFetchRequest()
		q.Version = fetchVersion
		q.MaxWaitMillis, q.MinBytes, q.MaxBytes = 500, 1, int32(r.Bytes)
		t := kmsg.NewFetchRequestTopic()
		t.TopicID = topicID(r.Partitions, r.Bytes)
		p := kmsg.NewFetchRequestTopicPartition()
		p.PartitionMaxBytes = int32(r.Bytes)
		t.Partitions = append(t.Partitions, p)
		q.Topics = append(q.Topics, t)
		req = q
	default:
		return nil, fmt.Errorf("no such request: %q", r.Kind)
	}
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, req, 0), nil
}

// answer encodes the response to a request, whose body begins behind the
// length field. It is called once for each different request.
func answer(body []byte) ([]byte, error) {
	req, err := decodeRequest(body)
	if err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	switch req := req.(type) {
	case *kmsg.ApiVersionsRequest:
		resp := resp.(*kmsg.ApiVersionsResponse)
		for _, r := range []kmsg.Request{
			&kmsg.ProduceRequest{}, &kmsg.FetchRequest{}, &kmsg.ListOffsetsRequest{}, &kmsg.MetadataRequest{},
			&kmsg.FindCoordinatorRequest{}, &kmsg.JoinGroupRequest{}, &kmsg.HeartbeatRequest{}, &kmsg.ApiVersionsRequest{},
		} {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MaxVersion = r.Key(), r.MaxVersion()
			resp.ApiKeys = append(resp.ApiKeys, k)
		}
	case *kmsg.MetadataRequest:
		if len(req.Topics) != 1 || req.Topics[0].Topic == nil {
			return nil, fmt.Errorf("a Metadata request for %d topics, the stand-in answers for one", len(req.Topics))
		}
		count, err := strconv.Atoi(strings.TrimPrefix(*req.Topics[0].Topic, brokersPrefix))
		if err != nil || count < 1 || count > maxBrokers {
			return nil, fmt.Errorf("a Metadata request for the topic %q", *req.Topics[0].Topic)
		}
		metadata(resp.(*kmsg.MetadataResponse), *req.Topics[0].Topic, count)
	case *kmsg.ProduceRequest:
		return nil, errors.New("a Produce request, which is answered without being read")
	case *kmsg.FetchRequest:
		if len(req.Topics) != 1 {
			return nil, fmt.Errorf("a Fetch request for %d topics, the stand-in answers for one", len(req.Topics))
		}
		partitions, size := fromTopicID(req.Topics[0].TopicID)
		if partitions < 1 || partitions > maxPartitions || size < 0 || size > maxBytes {
			return nil, fmt.Errorf("a Fetch request for %d bytes in %d partitions", size, partitions)
		}
		fetched(resp.(*kmsg.FetchResponse), req.Topics[0].TopicID, partitions, size)
	case *kmsg.HeartbeatRequest:
	default:
		return nil, fmt.Errorf("request %T, which the stand-in does not know", req)
	}
	return responseFrame(resp), nil
}

// produced encodes the response to every Produce request.
func produced() []byte {
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = produceVersion
	t := kmsg.NewProduceResponseTopic()
	for i := range 4 {
		p := kmsg.NewProduceResponseTopicPartition()
		p.Partition, p.BaseOffset = int32(i), 1_000_000
		t.Partitions = append(t.Partitions, p)
	}
	resp.Topics = append(resp.Topics, t)
	return responseFrame(resp)
}

// MetadataExchange encodes a Metadata request and its response, to measure
// without sockets. Both have the correlation id 0.
func MetadataExchange(brokers int) (request, response []byte, err error) {
	if request, err = (Request{Kind: Metadata, Brokers: brokers}).frame(); err != nil {
		return nil, nil, err
	}
	response, err = answer(request[4:])
	return request, response, err
}

const brokersPrefix = "brokers-"

func metadata(resp *kmsg.MetadataResponse, topic string, brokers int) {
	resp.ClusterID = kmsg.StringPtr("lkc-bench")
	for i := range brokers {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Port = int32(i), 9092
		b.Host = fmt.Sprintf("b%d-lkc-bench.eu-central-1.aws.upstream.example", i)
		b.Rack = kmsg.StringPtr("euc1-az" + strconv.Itoa(i%3+1))
		resp.Brokers = append(resp.Brokers, b)
	}
	t := kmsg.NewMetadataResponseTopic()
	t.Topic = kmsg.StringPtr(topic)
	for i := range 12 {
		p := kmsg.NewMetadataResponseTopicPartition()
		p.Partition, p.Leader = int32(i), int32(i%brokers)
		p.Replicas = []int32{0, 1, 2}
		p.ISR = p.Replicas
		t.Partitions = append(t.Partitions, p)
	}
	resp.Topics = append(resp.Topics, t)
}

func fetched(resp *kmsg.FetchResponse, id [16]byte, partitions, size int) {
	t := kmsg.NewFetchResponseTopic()
	t.TopicID = id
	records := recordBatch(size / partitions)
	for i := range partitions {
		p := kmsg.NewFetchResponseTopicPartition()
		p.Partition = int32(i)
		p.HighWatermark, p.LastStableOffset, p.LogStartOffset = 1_000_000, 1_000_000, 0
		p.RecordBatches = records
		t.Partitions = append(t.Partitions, p)
	}
	resp.Topics = append(resp.Topics, t)
}

// topicID says in a topic id which response is wanted.
func topicID(partitions, size int) (id [16]byte) {
	copy(id[:], "bench---")
	binary.BigEndian.PutUint32(id[8:], uint32(partitions))
	binary.BigEndian.PutUint32(id[12:], uint32(size))
	return id
}

func fromTopicID(id [16]byte) (partitions, size int) {
	return int(int32(binary.BigEndian.Uint32(id[8:]))), int(int32(binary.BigEndian.Uint32(id[12:])))
}

// responseFrame puts length and header before a response.
func responseFrame(resp kmsg.Response) []byte {
	b := make([]byte, 8, 512)
	if resp.IsFlexible() && resp.Key() != (&kmsg.ApiVersionsRequest{}).Key() {
		b = append(b, 0) // no tagged fields; ApiVersions has the old header in all versions
	}
	b = resp.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// decodeRequest reads a request that has a client id.
func decodeRequest(body []byte) (kmsg.Request, error) {
	if len(body) < 10 {
		return nil, errFrame
	}
	req := kmsg.RequestForKey(int16(binary.BigEndian.Uint16(body)))
	if req == nil {
		return nil, fmt.Errorf("%w: API key %d", errFrame, binary.BigEndian.Uint16(body))
	}
	req.SetVersion(int16(binary.BigEndian.Uint16(body[2:])))
	skip := 10 + max(0, int(int16(binary.BigEndian.Uint16(body[8:]))))
	if req.IsFlexible() {
		skip++ // the header's tagged fields, of which there are none
	}
	if len(body) < skip {
		return nil, errFrame
	}
	if err := req.ReadFrom(body[skip:]); err != nil {
		return nil, fmt.Errorf("request with API key %d: %w", req.Key(), err)
	}
	return req, nil
}

// recordBatch encodes one batch of records of a kilobyte each, of that size or
// a few bytes less. Nothing at all when a batch does not fit.
func recordBatch(size int) []byte {
	const (
		header = 61 // a batch's bytes before its records
		value  = 1024
		extra  = 12 // what a record has besides its value, at the most
	)
	random := rand.NewChaCha8([32]byte{1})
	batch := kmsg.RecordBatch{Magic: 2, PartitionLeaderEpoch: -1, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1}
	for left := size - header; left > extra; left = size - header - len(batch.Records) {
		r := kmsg.Record{OffsetDelta: batch.NumRecords, Value: make([]byte, min(value, left-extra))}
		random.Read(r.Value)
		// The length counts what follows it, so it is known only once encoded;
		// with length 0 it takes one byte itself.
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		batch.Records = r.AppendTo(batch.Records)
		batch.NumRecords++
	}
	if batch.NumRecords == 0 {
		return nil
	}
	batch.LastOffsetDelta = batch.NumRecords - 1
	encoded := batch.AppendTo(nil)
	binary.BigEndian.PutUint32(encoded[8:], uint32(len(encoded)-12))
	// The checksum covers everything behind itself.
	binary.BigEndian.PutUint32(encoded[17:], crc32.Checksum(encoded[21:], crc32.MakeTable(crc32.Castagnoli)))
	return encoded
}
