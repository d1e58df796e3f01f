package tlswire

import (
	"time"

	"golang.org/x/sys/unix"
)

func (w *wire) unacknowledged() (u Unacknowledged) {
	if w.raw == nil {
		return u
	}
	w.raw.Control(func(fd uintptr) { // does nothing to a closed socket
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		u = Unacknowledged{
			Waiting: info.Unacked > 0 || info.Notsent_bytes > 0,
			Closed:  info.Unacked == 0 || info.Snd_wnd == 0,
			Heard:   time.Duration(min(info.Last_ack_recv, info.Last_data_recv)) * time.Millisecond,
		}
	})
	return u
}
