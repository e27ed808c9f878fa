package torture

import (
	"os/exec"
	"syscall"
)

// dieWithUs has a process end when the test's process is killed, which then can not end it. Linux sends the signal when the thread ends that started the process; Go ends no thread
// but those that a goroutine has locked and left, which nobody does here.
func dieWithUs(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
