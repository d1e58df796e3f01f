//go:build !unix

package harness

import (
	"os"
	"os/exec"
)

func lead(*exec.Cmd) {}

func killGroup(leader *os.Process) error { return leader.Kill() }
