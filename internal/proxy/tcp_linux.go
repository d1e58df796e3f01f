package proxy

import (
	"time"

	"golang.org/x/sys/unix"
)

// unacknowledged asks the kernel about the connection. Kernels before 5.4 do not
// tell the window; to them it is always closed.
func (w *wire) unacknowledged() (u unacknowledged) {
	if w.raw == nil {
		return u
	}
	w.raw.Control(func(fd uintptr) { // does nothing to a closed one
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		u = unacknowledged{
			waiting: info.Unacked > 0 || info.Notsent_bytes > 0,
			closed:  info.Unacked == 0 || info.Snd_wnd == 0,
			heard:   time.Duration(min(info.Last_ack_recv, info.Last_data_recv)) * time.Millisecond,
		}
	})
	return u
}
