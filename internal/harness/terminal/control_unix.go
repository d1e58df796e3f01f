//go:build unix

package terminal

import (
	"os/exec"
	"syscall"
)

// control makes the command's standard input its controlling terminal, so that a change of
// the size and Ctrl-C reach it as signals.
func control(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true} }
