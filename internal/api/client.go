package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// Patience is how long an answer may take, all of it.
	Patience = 10 * time.Second
	// maxAnswer is how long an answer may be, in bytes. A thousand sessions with texts of
	// [MaxText] everywhere are 4 MiB, a hundred clusters with a thousand brokers each 40 MiB.
	maxAnswer = 64 << 20
)

// Why there is no answer. Whoever asks adds what to do, in terms of its own settings.
var (
	ErrUnreachable  = errors.New("no answer")
	ErrNotAdmin     = errors.New("that is not the admin port of a kafka-sni-proxy")
	ErrUnauthorized = errors.New("the admin port wants a token")
	ErrTLS          = errors.New("TLS")
	ErrSpeaksTLS    = errors.New("the admin port speaks TLS")
	ErrRefused      = errors.New("refused")
)

// Client asks an admin port.
type Client struct {
	// Base is where it is, such as http://127.0.0.1:9090.
	Base string
	// Token is shown to it (RFC 6750); empty: none.
	Token string
	// HTTP asks; nil: a client that uses no HTTP proxy. It should not follow redirects.
	HTTP *http.Client

	most int64 // how long an answer may be; 0: maxAnswer
}

// NewHTTP returns a client for [Client.HTTP]: without an HTTP proxy, because an admin port is
// near, and without redirects, which would take the token elsewhere. t may be nil.
func NewHTTP(t *tls.Config) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: t, MaxIdleConns: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// plain is for those who set no client.
var plain = NewHTTP(nil)

// Status asks how the process is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return ask[Status](ctx, c, "status", nil)
}

// Clusters asks for the clusters and their brokers.
func (c *Client) Clusters(ctx context.Context) (*Clusters, error) {
	return ask[Clusters](ctx, c, "clusters", nil)
}

// Sessions asks for a page of sessions.
func (c *Client) Sessions(ctx context.Context, q SessionQuery) (*Sessions, error) {
	return ask[Sessions](ctx, c, "sessions", q.Values())
}

// Failures asks for the last failures.
func (c *Client) Failures(ctx context.Context) (*Failures, error) {
	return ask[Failures](ctx, c, "failures", nil)
}

// History asks for the last hour of a cluster; "": of all.
func (c *Client) History(ctx context.Context, cluster string) (*History, error) {
	query := url.Values{}
	if cluster != "" {
		query.Set("cluster", cluster)
	}
	return ask[History](ctx, c, "history", query)
}

// Support asks for what a report of a bug needs besides.
func (c *Client) Support(ctx context.Context) (*Support, error) {
	return ask[Support](ctx, c, "support", nil)
}

func ask[T any](ctx context.Context, c *Client, what string, query url.Values) (*T, error) {
	text, err := c.Raw(ctx, what, query)
	if err != nil {
		return nil, err
	}
	answer := new(T)
	if err := json.Unmarshal(text, answer); err != nil {
		return nil, fmt.Errorf("%w: its answer to %s%s is not as expected: %w", ErrNotAdmin, Prefix, what, err)
	}
	return answer, nil
}

// Raw returns an answer as it came. It is a JSON object.
func (c *Client) Raw(ctx context.Context, what string, query url.Values) ([]byte, error) {
	path := Prefix + what
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	text, err := c.Page(ctx, path)
	if err != nil {
		return nil, err
	}
	if text = bytes.TrimSpace(text); len(text) == 0 || text[0] != '{' || !json.Valid(text) {
		return nil, fmt.Errorf("%w: its answer is no JSON", ErrNotAdmin)
	}
	return text, nil
}

// Page returns what the port answers to any path, such as /metrics.
func (c *Client) Page(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, Patience, fmt.Errorf("none within %v", Patience))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.Base, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json, text/plain")
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := c.HTTP
	if client == nil {
		client = plain
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, c.unanswered(ctx, err)
	}
	defer response.Body.Close()
	most := cmp.Or(c.most, maxAnswer)
	text, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	switch {
	case err != nil:
		return nil, c.unanswered(ctx, err)
	case int64(len(text)) > most:
		return nil, fmt.Errorf("%w: its answer is longer than %d MiB", ErrNotAdmin, most>>20)
	case response.StatusCode != http.StatusOK:
		return nil, refused(response, text)
	}
	return text, nil
}

// unanswered says why there is no answer.
func (c *Client) unanswered(ctx context.Context, err error) error {
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err // without the address, which whoever asked knows
	}
	var header tls.RecordHeaderError
	var op *net.OpError
	var unverified *tls.CertificateVerificationError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &header), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w: what answers there does not speak it", ErrTLS)
	case errors.As(err, &op) && op.Op == "remote error", errors.As(err, &unverified), errors.As(err, &invalid): // the first is an alert
		return fmt.Errorf("%w: %w", ErrTLS, err)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return fmt.Errorf("%w: %w", ErrUnreachable, context.Cause(ctx))
	case strings.Contains(err.Error(), "malformed HTTP"): // net/http has no type for it
		return fmt.Errorf("%w: what answers there does not speak HTTP", ErrNotAdmin)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// refused says why an answer is none.
func refused(response *http.Response, text []byte) error {
	var problem Problem
	isOurs := json.Unmarshal(text, &problem) == nil && problem.Error != ""
	switch status := response.StatusCode; {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		said := problem.Error
		if said == "" {
			said = response.Status
		}
		if how := response.Header.Get("WWW-Authenticate"); how != "" {
			said += " (" + how + ")"
		}
		return fmt.Errorf("%w: %s", ErrUnauthorized, said)
	case status == http.StatusBadRequest && bytes.Contains(text, []byte("HTTP request to an HTTPS server")): // of net/http
		return ErrSpeaksTLS
	case isOurs:
		return fmt.Errorf("%w: %s", ErrRefused, problem.Error)
	}
	return fmt.Errorf("%w, or of one that is too old: it answers %s", ErrNotAdmin, response.Status)
}
