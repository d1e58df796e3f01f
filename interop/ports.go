package main

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// freePorts hands out loopback ports. They come from below the range from
// which the kernel takes the ports of outgoing connections, so that a broker
// that is restarted finds its port still free.
type freePorts struct{ next int }

func newFreePorts() *freePorts { return &freePorts{next: 20000 + rand.IntN(8000)} }

func (f *freePorts) take() int {
	for ; f.next < 32000; f.next++ {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", f.next))
		if err != nil {
			continue
		}
		ln.Close()
		f.next++
		return f.next - 1
	}
	panic("no free port below 32000")
}
