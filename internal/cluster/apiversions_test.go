package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

// offerer is a broker that offers Produce, Metadata and CreateDelegationToken (38), once it is
// let go on.
func offerer(t *testing.T, goOn <-chan struct{}, asked *atomic.Int32) *teller {
	b := &teller{}
	b.Broker = kafkatest.StartBroker(t, "a.test", kafkatest.Answer(func(f []byte) []byte {
		asked.Add(1)
		<-goOn
		if key, version := binary.BigEndian.Uint16(f), binary.BigEndian.Uint16(f[2:]); key != 18 || version != 0 {
			t.Errorf("it was asked for API %d version %d", key, version)
		}
		return kafkatest.Frame(f[4:8], []byte{0, 0, 0, 0, 0, 3}, []byte{0, 0, 0, 3, 0, 9}, []byte{0, 3, 0, 1, 0, 12}, []byte{0, 38, 0, 1, 0, 3})
	}))
	return b
}

func TestWhatABrokerOffersIsAskedForOnce(t *testing.T) {
	goOn, asked := make(chan struct{}), atomic.Int32{}
	b := offerer(t, goOn, &asked)
	c := clusterOf(t, nil, []*teller{b})
	r, err := c.Resolve(c.Bootstrap())
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			r := r // of its own: it is resolved again
			answer, err := c.APIVersions(t.Context(), &r, 0)
			if err != nil || !bytes.Contains(answer, []byte{0, 3, 0, 1, 0, 12}) || bytes.Contains(answer, []byte{0, 38}) {
				t.Errorf("% x, %v", answer, err)
			}
		})
	}
	close(goOn)
	group.Wait()
	if asked.Load() != 1 {
		t.Errorf("the broker was asked %d times", asked.Load())
	}
}

// Who gives up does not spoil it for those who wait for the same, and a failure is told to
// all of them.
func TestWhoGivesUpDoesNotSpoilTheOffer(t *testing.T) {
	goOn, asked := make(chan struct{}), atomic.Int32{}
	b := offerer(t, goOn, &asked)
	c := clusterOf(t, nil, []*teller{b})
	r, err := c.Resolve(c.Bootstrap())
	if err != nil {
		t.Fatal(err)
	}
	impatient, giveUp := context.WithCancel(t.Context())
	first, second := make(chan error), make(chan error)
	ask := func(ctx context.Context, r route.Route, said chan error) {
		_, err := c.APIVersions(ctx, &r, 0)
		said <- err
	}
	go ask(impatient, r, first)
	for asked.Load() == 0 {
	}
	go ask(t.Context(), r, second)
	giveUp()
	if err := <-first; err == nil {
		t.Error("who gave up got an answer")
	}
	close(goOn)
	if err := <-second; err != nil {
		t.Error(err)
	}
	c.config.Dial = func(context.Context, string, int32) (net.Conn, error) { return nil, errors.New("refused") }
	if _, err := c.APIVersions(t.Context(), &r, 3); !errors.As(err, new(*ConnectError)) {
		t.Errorf("of a broker that is not there: %v", err)
	}
}
