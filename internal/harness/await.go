package harness

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Await calls try at short intervals until it returns nil or a [Final] error, or
// ctx ends; what says what was waited for. Use it only for what cannot be waited
// for directly.
func Await(ctx context.Context, what string, try func() error) error {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := try()
		if err == nil {
			return nil
		}
		if _, ok := errors.AsType[final](err); ok {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (last: %w)", what, context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

// Final marks an error after which [Await] does not try again.
func Final(err error) error { return final{err} }

type final struct{ error }

func (f final) Unwrap() error { return f.error }
