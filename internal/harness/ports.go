package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports hands out loopback ports that are free, each of them once. They come from
// below the range from which systems take the ports of outgoing connections, so
// that a program that is restarted finds its port still free. The zero value is
// ready.
type Ports struct {
	mu   sync.Mutex
	next int
}

const firstPort, lastPort = 20000, 32000

// Take returns a port that can be listened on.
func (p *Ports) Take() (int, error) { return p.TakeRange(1) }

// TakeRange returns the first of n ports in a row.
func (p *Ports) TakeRange(n int) (first int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == 0 {
		// Programs that run at the same time seldom meet.
		p.next = firstPort + rand.IntN((lastPort-firstPort)*2/3)
	}
	for free := 0; p.next < lastPort; p.next++ {
		ln, err := net.Listen("tcp", loopback(p.next))
		if err != nil {
			free = 0
			continue
		}
		ln.Close()
		if free++; free == n {
			p.next++
			return p.next - n, nil
		}
	}
	return 0, fmt.Errorf("no %d loopback ports in a row are free below %d: end what listens there", n, lastPort)
}

// Address is Take as "127.0.0.1:port".
func (p *Ports) Address() (string, error) {
	port, err := p.Take()
	return loopback(port), err
}

// TakeAll is Take for several at once.
func (p *Ports) TakeAll(to ...*int) (err error) {
	for i := 0; i < len(to) && err == nil; i++ {
		*to[i], err = p.Take()
	}
	return err
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
