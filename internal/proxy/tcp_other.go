//go:build !linux

package proxy

// unacknowledged is known on Linux alone.
func (w *wire) unacknowledged() unacknowledged { return unacknowledged{} }
