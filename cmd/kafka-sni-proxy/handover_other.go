//go:build !unix

package main

import (
	"errors"
	"os"
)

func notifyHandOver(chan<- os.Signal) {}

func startSuccessor(places) (pid int, err error) { return 0, errors.ErrUnsupported }

func succeed() (serving func()) { return nil }
