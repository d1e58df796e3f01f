package session

import (
	"fmt"
	"runtime/debug"
)

// PanicError is a panic that was recovered. It ends one session, and no more.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// RecoverPanic runs f, and returns a panic as a [*PanicError].
func RecoverPanic(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return f()
}
