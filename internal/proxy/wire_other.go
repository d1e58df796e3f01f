//go:build !unix

package proxy

import "errors"

// canReadRaw is false: a read needs its buffer before it waits.
const canReadRaw = false

func readFD(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
