//go:build !unix

package tlswire

import "errors"

// canUseRaw is false: a read needs its buffer before it waits.
const canUseRaw = false

func readFD(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

func writeFD(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
