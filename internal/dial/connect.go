package dial

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// maxAnswer is the longest header of an answer to CONNECT, in bytes.
const maxAnswer = 16 << 10

// connect has an HTTP proxy connect to an address.
func (g *Gate) connect(ctx context.Context, conn net.Conn, address string) (Stage, error) {
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	request := g.connectRequest(address)
	if err := request.Write(conn); err != nil {
		return StageSpeak, err
	}
	answer, err := readAnswer(conn, request)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // so it may still be connecting to the broker
		return StageRefuse, err
	case err != nil:
		return StageSpeak, clip(err)
	case answer.StatusCode == http.StatusProxyAuthRequired:
		return StageLogin, clip(errors.New(answer.Status))
	case answer.StatusCode/100 != 2:
		return StageRefuse, clip(errors.New(answer.Status))
	case !stop():
		return StageRefuse, context.Cause(ctx)
	}
	return 0, conn.SetDeadline(time.Time{})
}

func (g *Gate) connectRequest(address string) *http.Request {
	r := &http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Opaque: address},
		Host:   address,
		Header: http.Header{"User-Agent": {""}}, // none
	}
	if g.user != "" {
		r.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(g.user+":"+g.password)))
	}
	return r
}

// readAnswer reads the header of the answer to a request, and no byte behind it: that is the
// broker's already.
func readAnswer(conn io.Reader, request *http.Request) (*http.Response, error) {
	limited := &io.LimitedReader{R: conn, N: maxAnswer}
	in := bufio.NewReaderSize(oneByte{limited}, 16)
	for {
		answer, err := http.ReadResponse(in, request)
		switch {
		case err != nil && limited.N == 0:
			return nil, fmt.Errorf("the header of its answer is longer than %d bytes", maxAnswer)
		case err != nil:
			return nil, err
		case answer.StatusCode/100 != 1 || answer.StatusCode == http.StatusSwitchingProtocols:
			return answer, nil
		}
	}
}

// oneByte reads one byte at once, so that a buffered reader of it has nothing left when it
// has read a line.
type oneByte struct{ io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.Reader.Read(p[:min(len(p), 1)]) }
