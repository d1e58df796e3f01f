package kafkatest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

func TestATopicIsCreatedByWhoeverProducesToIt(t *testing.T) {
	for name, opts := range map[string][]kgo.Opt{
		"client that asks for it": {kgo.AllowAutoTopicCreation()},
		"client that does not":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			ctx := deadline(t)
			client := direct(t, Start(t, Options{CreateTopics: true}), append(opts,
				kgo.UnknownTopicRetries(0), kgo.ConsumeTopics("mine"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
			if err := client.ProduceSync(ctx, &kgo.Record{Topic: "mine", Value: []byte("hello")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if records := client.PollFetches(ctx).Records(); len(records) != 1 || string(records[0].Value) != "hello" {
				t.Errorf("read back %v", records)
			}
		})
	}
}

// TestATopicIsCreatedByMetadata asks as librdkafka does before it produces
// (version 12, creation wanted), as its admin client and franz-go do (not
// wanted), and as clients do whose version cannot say.
func TestATopicIsCreatedByMetadata(t *testing.T) {
	ctx := deadline(t)
	c := Start(t, Options{CreateTopics: true})
	for name, ask := range map[string]struct {
		version int16
		allow   bool
		want    error
	}{
		"wanted":     {12, true, nil},
		"not-wanted": {12, false, nil},
		"before-4":   {1, false, nil},
		"not/legal":  {12, true, kerr.UnknownTopicOrPartition},
		"":           {12, true, kerr.UnknownTopicOrPartition},
	} {
		versions := kversion.Stable()
		versions.SetMaxKeyVersion(int16(kmsg.Metadata), ask.version)
		resp, err := metadata(ask.allow, name).RequestWith(ctx, direct(t, c, kgo.MaxVersions(versions)))
		if err != nil {
			t.Fatal(err)
		}
		if got := kerr.ErrorForCode(resp.Topics[0].ErrorCode); got != ask.want || resp.Version != ask.version {
			t.Errorf("%q, version %d: the cluster says %v in version %d, want %v", name, ask.version, got, resp.Version, ask.want)
		}
	}
}

func TestTopicsAreCreatedOnlyWhereTheOptionsSaySo(t *testing.T) {
	client := direct(t, Start(t, Options{}))
	resp, err := metadata(true, "mine").RequestWith(deadline(t), client)
	if err != nil {
		t.Fatal(err)
	}
	if got := kerr.ErrorForCode(resp.Topics[0].ErrorCode); got != kerr.UnknownTopicOrPartition {
		t.Errorf("the cluster says %v", got)
	}
}

func metadata(allow bool, topic string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = allow
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, t)
	return req
}
