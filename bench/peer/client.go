package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
)

// Client is the parent's end of a load client. Calls may be made at the same
// time; each ends with its context, though the load client may go on for a
// while.
type Client struct{ rpc *rpc.Client }

// NewClient talks to a load client over its stdin and stdout.
func NewClient(stdout io.ReadCloser, stdin io.WriteCloser) *Client {
	return &Client{rpc.NewClient(pipes{stdout, stdin})}
}

// Open opens connections and returns the set that they are.
func (c *Client) Open(ctx context.Context, to Server, connections int) (int, error) {
	var reply OpenReply
	err := c.call(ctx, "Open", OpenArgs{to, connections}, &reply)
	return reply.Set, err
}

// Close closes a set of connections.
func (c *Client) Close(ctx context.Context, set int) error {
	return c.call(ctx, "Close", set, &struct{}{})
}

// Bulk sends as much as it may on all connections of a set.
func (c *Client) Bulk(ctx context.Context, args BulkArgs) (reply BulkReply, err error) {
	err = c.call(ctx, "Bulk", args, &reply)
	return reply, err
}

// RoundTrips sends one request at a time and returns how long each took, in
// nanoseconds.
func (c *Client) RoundTrips(ctx context.Context, args RoundTripsArgs) ([]int64, error) {
	var reply RoundTripsReply
	err := c.call(ctx, "RoundTrips", args, &reply)
	return reply.Nanoseconds, err
}

// Exchange has every connection of a set carry these requests once.
func (c *Client) Exchange(ctx context.Context, set int, requests ...Request) (reply BulkReply, err error) {
	err = c.call(ctx, "Exchange", ExchangeArgs{set, requests}, &reply)
	return reply, err
}

// Handshakes opens and closes connections.
func (c *Client) Handshakes(ctx context.Context, args HandshakesArgs) (reply HandshakesReply, err error) {
	err = c.call(ctx, "Handshakes", args, &reply)
	return reply, err
}

func (c *Client) call(ctx context.Context, method string, args, reply any) error {
	call := c.rpc.Go("Load."+method, args, reply, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		if errors.Is(call.Error, rpc.ErrShutdown) || errors.Is(call.Error, io.ErrUnexpectedEOF) {
			return fmt.Errorf("the load client is gone: %w", call.Error)
		}
		return call.Error
	case <-ctx.Done():
		return ctx.Err()
	}
}
