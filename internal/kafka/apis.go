package kafka

import "strconv"

// apiFacts are what is to be known of any API to measure it.
type apiFacts struct {
	name string
	// flexible is the first version with tagged fields, throttle the first one whose
	// response begins with throttle_time_ms (KIP-219).
	flexible, throttle int16
}

// allAPIs are the APIs of Kafka 4.4, by key (https://kafka.apache.org/protocol#protocol_api_keys).
var allAPIs = [APIs - 1]apiFacts{
	0:  {"Produce", 9, never},
	1:  {"Fetch", 12, 1},
	2:  {"ListOffsets", 6, 2},
	3:  {"Metadata", 9, 3},
	4:  {"LeaderAndIsr", 4, never},
	5:  {"StopReplica", 2, never},
	6:  {"UpdateMetadata", 6, never},
	7:  {"ControlledShutdown", 3, never},
	8:  {"OffsetCommit", 8, 3},
	9:  {"OffsetFetch", 6, 3},
	10: {"FindCoordinator", 3, 1},
	11: {"JoinGroup", 6, 2},
	12: {"Heartbeat", 4, 1},
	13: {"LeaveGroup", 4, 1},
	14: {"SyncGroup", 4, 1},
	15: {"DescribeGroups", 5, 1},
	16: {"ListGroups", 3, 1},
	17: {"SaslHandshake", never, never},
	18: {"ApiVersions", 3, never},
	19: {"CreateTopics", 5, 2},
	20: {"DeleteTopics", 4, 1},
	21: {"DeleteRecords", 2, 0},
	22: {"InitProducerId", 2, 0},
	23: {"OffsetForLeaderEpoch", 4, 2},
	24: {"AddPartitionsToTxn", 3, 0},
	25: {"AddOffsetsToTxn", 3, 0},
	26: {"EndTxn", 3, 0},
	27: {"WriteTxnMarkers", 1, never},
	28: {"TxnOffsetCommit", 3, 0},
	29: {"DescribeAcls", 2, 0},
	30: {"CreateAcls", 2, 0},
	31: {"DeleteAcls", 2, 0},
	32: {"DescribeConfigs", 4, 0},
	33: {"AlterConfigs", 2, 0},
	34: {"AlterReplicaLogDirs", 2, 0},
	35: {"DescribeLogDirs", 2, 0},
	36: {"SaslAuthenticate", 2, never},
	37: {"CreatePartitions", 2, 0},
	38: {"CreateDelegationToken", 2, never},
	39: {"RenewDelegationToken", 2, never},
	40: {"ExpireDelegationToken", 2, never},
	41: {"DescribeDelegationToken", 2, never},
	42: {"DeleteGroups", 2, 0},
	43: {"ElectLeaders", 2, 0},
	44: {"IncrementalAlterConfigs", 1, 0},
	45: {"AlterPartitionReassignments", 0, 0},
	46: {"ListPartitionReassignments", 0, 0},
	47: {"OffsetDelete", never, never},
	48: {"DescribeClientQuotas", 1, 0},
	49: {"AlterClientQuotas", 1, 0},
	50: {"DescribeUserScramCredentials", 0, 0},
	51: {"AlterUserScramCredentials", 0, 0},
	52: {"Vote", 0, never},
	53: {"BeginQuorumEpoch", 1, never},
	54: {"EndQuorumEpoch", 1, never},
	55: {"DescribeQuorum", 0, never},
	56: {"AlterPartition", 0, 0},
	57: {"UpdateFeatures", 0, 0},
	58: {"Envelope", 0, never},
	59: {"FetchSnapshot", 0, 0},
	60: {"DescribeCluster", 0, 0},
	61: {"DescribeProducers", 0, 0},
	62: {"BrokerRegistration", 0, 0},
	63: {"BrokerHeartbeat", 0, 0},
	64: {"UnregisterBroker", 0, 0},
	65: {"DescribeTransactions", 0, 0},
	66: {"ListTransactions", 0, 0},
	67: {"AllocateProducerIds", 0, 0},
	68: {"ConsumerGroupHeartbeat", 0, 0},
	69: {"ConsumerGroupDescribe", 0, 0},
	70: {"ControllerRegistration", 0, 0},
	71: {"GetTelemetrySubscriptions", 0, 0},
	72: {"PushTelemetry", 0, 0},
	73: {"AssignReplicasToDirs", 0, 0},
	74: {"ListConfigResources", 0, 0},
	75: {"DescribeTopicPartitions", 0, 0},
	76: {"ShareGroupHeartbeat", 0, 0},
	77: {"ShareGroupDescribe", 0, 0},
	78: {"ShareFetch", 0, 0},
	79: {"ShareAcknowledge", 0, 0},
	80: {"AddRaftVoter", 0, 0},
	81: {"RemoveRaftVoter", 0, 0},
	82: {"UpdateRaftVoter", 0, 0},
	83: {"InitializeShareGroupState", 0, never},
	84: {"ReadShareGroupState", 0, never},
	85: {"WriteShareGroupState", 0, never},
	86: {"DeleteShareGroupState", 0, never},
	87: {"ReadShareGroupStateSummary", 0, never},
	88: {"StreamsGroupHeartbeat", 0, 0},
	89: {"StreamsGroupDescribe", 0, 0},
	90: {"DescribeShareGroupOffsets", 0, 0},
	91: {"AlterShareGroupOffsets", 0, 0},
	92: {"DeleteShareGroupOffsets", 0, 0},
}

// APIs is how many names [APIName] can return: those of Kafka 4.4, and "other".
const APIs = 94

// APIIndex returns a number below APIs for an API key: the key, or APIs-1 for all that are
// not known.
func APIIndex(key int16) int {
	if key < 0 || key >= APIs-1 {
		return APIs - 1
	}
	return int(key)
}

// APIName returns the name of the API with such an index, as in Kafka's message definitions.
func APIName(index int) string {
	if index < 0 || index >= APIs-1 {
		return "other"
	}
	return allAPIs[index].name
}

func apiName(key int16) string {
	if i := APIIndex(key); i < APIs-1 {
		return allAPIs[i].name
	}
	return "API " + strconv.Itoa(int(key))
}

// throttleTime returns the throttle_time_ms of a response to req, of size bytes, of which b
// begins with the length field; 0 where there is none, or where b has too little of it. Of
// Produce it is near the end: the whole response has to be there.
func throttleTime(req pending, b []byte, size int64) int32 {
	if req.kind != kafkaRequest || req.key < 0 || int(req.key) >= len(allAPIs) {
		return 0
	}
	facts := &allAPIs[req.key]
	at := 8
	switch {
	case req.key == keyProduce && req.version > 0:
		if int64(len(b)) < size {
			return 0
		}
		at = int(size) - 4
		if req.version >= facts.flexible {
			if at--; b[size-1] != 0 { // there are endpoints behind it, and the broker has more to say than that
				return 0
			}
		}
	case req.version < facts.throttle:
		return 0
	case req.version >= facts.flexible:
		if at++; len(b) < at || b[at-1] != 0 { // tags in a response header: none are defined
			return 0
		}
	}
	if at < 8 || len(b) < at+4 {
		return 0
	}
	return max(be32(b[at:]), 0)
}
