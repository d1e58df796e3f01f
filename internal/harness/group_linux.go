package harness

import "syscall"

// endWithParent has the kernel end a process when this one ends, however that may
// come about.
func endWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGKILL }
