//go:build !linux

package main

import "errors"

func limitFiles(int, uint64) (uint64, error) { return 0, errors.ErrUnsupported }

func adoptOrphans() error { return errors.ErrUnsupported }
