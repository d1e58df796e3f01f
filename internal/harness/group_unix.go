//go:build unix

package harness

import (
	"os"
	"os/exec"
	"syscall"
)

// lead has a command lead a process group of its own, so that ending the group
// ends everything it has started, and a Ctrl-C at the terminal does not reach it:
// this program ends it, in order.
func lead(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr)
}

func killGroup(leader *os.Process) error { return syscall.Kill(-leader.Pid, syscall.SIGKILL) }
