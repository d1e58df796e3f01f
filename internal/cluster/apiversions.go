package cluster

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
)

// offers is what brokers offer (ApiVersions). A client asks for it before it says who it is,
// and gets what is known here: none of its bytes goes to a broker for that.
type offers struct {
	mu  sync.Mutex
	all map[offerKey]*offer
}

// offerKey is a broker and the version of the request, which the form of the response follows.
type offerKey struct {
	at      route.Address
	version int16
}

// offer is a response, or one that is under way.
type offer struct {
	done   chan struct{} // closed when the rest is set
	answer []byte
	err    error // both nil: whoever was to get it has gone
	at     time.Time
}

const (
	// offerAge is for how long a response is given to clients. After an upgrade of a broker,
	// they ask for what it cannot do for so long, and learn of what it can do now.
	offerAge = time.Minute
	// maxOffers is how many are kept.
	maxOffers = 4096
	// newestOffer is the newest version that is asked for as it is. In a newer one, brokers
	// say that they do not know it, whatever it is.
	newestOffer = 15
)

// APIVersions returns what the broker at a route offers, without what cannot work when clients
// are somebody else to it: the response to an ApiVersions request of a version, with its
// length and the correlation id 0. It is not to be changed. The error is a [*ConnectError]
// when no broker could be reached.
func (c *Cluster) APIVersions(ctx context.Context, r *route.Route, version int16) ([]byte, error) {
	if version < 0 || version > newestOffer {
		version = newestOffer + 1
	}
	c.resolveAgain(r)
	key := offerKey{r.Addresses[0], version}
	for {
		o, isMine := c.offers.take(key)
		if isMine {
			return c.askOffer(ctx, r.Addresses, key, o)
		}
		select {
		case <-o.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if o.answer != nil || o.err != nil {
			return o.answer, o.err
		}
	}
}

// take returns a response that may be given to a client, or that is under way. isMine: the
// caller is to get it.
func (o *offers) take(key offerKey) (of *offer, isMine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if known := o.all[key]; known != nil {
		select {
		case <-known.done:
			if known.answer != nil && time.Since(known.at) < offerAge {
				return known, false
			}
		default:
			return known, false
		}
	}
	if o.all == nil || len(o.all) >= maxOffers {
		o.all = map[offerKey]*offer{}
	}
	mine := &offer{done: make(chan struct{})}
	o.all[key] = mine
	return mine, true
}

// askOffer gets what a broker offers. Those who wait for it are released even by a panic.
func (c *Cluster) askOffer(ctx context.Context, addresses []route.Address, key offerKey, o *offer) ([]byte, error) {
	defer close(o.done)
	limited, cancel := context.WithTimeout(ctx, QueryTimeout)
	defer cancel()
	answer, err := c.fetchOffer(limited, addresses, key.version)
	if err == nil || ctx.Err() == nil {
		o.answer, o.err, o.at = answer, err, time.Now()
	}
	return answer, err
}

func (c *Cluster) fetchOffer(ctx context.Context, addresses []route.Address, version int16) ([]byte, error) {
	broker, address, err := c.dial(ctx, addresses)
	if err != nil {
		return nil, err
	}
	defer broker.Close()
	defer context.AfterFunc(ctx, broker.CloseNow)()

	var answer bytes.Buffer
	err = ask(broker, kafka.AskAPIVersions(version), &kafka.Responses{Out: &answer, MaxFrame: maxOfferBytes, NoIdentities: true})
	if err != nil {
		return nil, &ConnectError{StageDial, fmt.Errorf("asking broker %s what it offers (ApiVersions): %w", address, err)}
	}
	return answer.Bytes(), nil
}

// maxOfferBytes is the longest response that is read. One of Kafka 4.3 has about 700 bytes.
const maxOfferBytes = 64 << 10
