//go:build !linux

package tlswire

func (w *wire) unacknowledged() Unacknowledged { return Unacknowledged{} }
