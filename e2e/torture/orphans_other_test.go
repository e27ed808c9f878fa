//go:build !linux

package torture

import "os/exec"

// dieWithUs does nothing: only Linux can.
func dieWithUs(*exec.Cmd) {}
