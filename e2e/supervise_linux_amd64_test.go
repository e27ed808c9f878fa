package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A supervised router asks the test before each system call that changes a file: the kernel holds the call back and tells the test of it (a seccomp
// filter with a listener), which answers it or lets it go on. It needs no root, no other file system and no change of the router; and as the filter
// stands before the router is executed, it holds for all that it does, SQLite included.

// fileCall is one system call on a file below the supervised directory.
type fileCall struct {
	kind string // create, write, truncate, sync, rename, remove, mkdir, statfs
	path string // of the file as it is called now
	to   string // of rename
	off  int64  // of write; the size, of truncate
	data []byte // of write
	dir  bool   // of sync: a folder's
}

// String is the call in a few words.
func (c fileCall) String() string {
	return fmt.Sprintf("%s %s %d+%d", c.kind, c.path, c.off, len(c.data))
}

// supervisor holds and answers the file calls of one process.
type supervisor struct {
	root     string
	listener int
	ended    chan struct{}

	mu    sync.Mutex
	fault func(fileCall) unix.Errno // decides what a call answers without being made; 0: it is made
	trace []fileCall                // the calls that were made, if tracing
	keep  bool
	free  int64 // what statfs says is free; 0: the truth
}

func init() { children["supervised"] = becomeSupervised }

// supervised are the calls that are held back. The kinds of those that change nothing on the disk are empty.
var supervised = []uint32{
	unix.SYS_OPEN, unix.SYS_OPENAT, unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_FTRUNCATE, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_FALLOCATE,
	unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINK, unix.SYS_UNLINKAT, unix.SYS_MKDIR, unix.SYS_MKDIRAT, unix.SYS_STATFS,
}

// becomeSupervised installs the filter, hands its listener to the parent through descriptor 3, and becomes the program in the arguments. It returns
// only what went wrong.
func becomeSupervised() error {
	runtime.LockOSThread() // the filter is this thread's, until exec makes it the process's
	var filter []unix.SockFilter
	add := func(code uint16, k uint32, jt, jf int) {
		filter = append(filter, unix.SockFilter{Code: code, K: k, Jt: uint8(jt), Jf: uint8(jf)})
	}
	add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 4, 0, 0) // the architecture
	add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, unix.AUDIT_ARCH_X86_64, 1, 0)
	add(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW, 0, 0)
	add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0, 0) // the number
	for i, nr := range supervised {
		add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, nr, len(supervised)-i, 0)
	}
	add(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW, 0, 0)
	add(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_USER_NOTIF, 0, 0)
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	install := func(flags uintptr) (uintptr, syscall.Errno) {
		fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags|unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
		return fd, errno
	}
	fd, errno := install(unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) // or a signal makes a call begin anew
	if errno == unix.EINVAL {
		fd, errno = install(0)
	}
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		return fmt.Errorf("hand the listener over: %w", err)
	}
	unix.CloseOnExec(3)
	return syscall.Exec(os.Args[1], os.Args[1:], withoutEnv(childEnv))
}

func withoutEnv(name string) (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, name+"=") {
			env = append(env, v)
		}
	}
	return env
}

// newSupervisor makes a supervisor of a directory.
func newSupervisor(root string) *supervisor {
	return &supervisor{root: filepath.Clean(root), ended: make(chan struct{})}
}

// command is the router with these arguments under supervision. Where the kernel does not allow that, the test is skipped.
func (s *supervisor) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "listener")
	cmd := exec.Command(os.Args[0], append([]string{binary}, args...)...)
	cmd.Env = append(os.Environ(), childEnv+"=supervised")
	cmd.ExtraFiles = []*os.File{theirs}
	go s.receive(pair[0])
	t.Cleanup(func() { theirs.Close(); <-s.ended })
	return cmd
}

// receive waits for the listener and serves it until the process has ended.
func (s *supervisor) receive(socket int) {
	defer close(s.ended)
	ours := os.NewFile(uintptr(socket), "listener")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return
	}
	defer conn.Close()
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return
	}
	s.listener = fds[0]
	defer unix.Close(s.listener)
	for s.serve() {
	}
}

// notice is struct seccomp_notif, answer struct seccomp_notif_resp.
type notice struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type answer struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// serve answers one call; false: there will be no more.
func (s *supervisor) serve() bool {
	poll := []unix.PollFd{{Fd: int32(s.listener), Events: unix.POLLIN}}
	if _, err := unix.Poll(poll, -1); err != nil {
		return errors.Is(err, unix.EINTR)
	}
	if poll[0].Revents&unix.POLLIN == 0 {
		return false
	}
	var n notice
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return errno == unix.ENOENT || errno == unix.EINTR
	}
	a := answer{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	call, ours := s.read(&n)
	s.mu.Lock()
	traced := false
	if ours {
		errno := unix.Errno(0)
		if s.fault != nil {
			errno = s.fault(call)
		}
		switch {
		case errno != 0:
			a = answer{id: n.id, err: -int32(errno)}
		case call.kind == "statfs" && s.free != 0:
			a = s.statfs(&n, call.path)
		case s.keep && call.kind != "statfs":
			// Before the answer: who sees what follows from the call must find it here.
			s.trace = append(s.trace, call)
			traced = true
			if call.kind == "sync" {
				a = answer{id: n.id} // what the disk holds is up to the trace
			}
		}
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&a)))
	if errno != 0 && traced { // the process was killed, or the call begins anew
		s.trace = s.trace[:len(s.trace)-1]
	}
	s.mu.Unlock()
	return true
}

// set changes what calls answer.
func (s *supervisor) set(fault func(fileCall) unix.Errno) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// setFree changes what the router is told of free space.
func (s *supervisor) setFree(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = bytes
}

// now is how many calls were made.
func (s *supervisor) now() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.trace)
}

// read finds out what a call is about.
func (s *supervisor) read(n *notice) (c fileCall, ours bool) {
	pid := int(n.pid)
	at := func(dirfd, path uint64) string { return s.pathAt(pid, int32(dirfd), readString(pid, path)) }
	const here = uint64(0xffffff9c) // AT_FDCWD
	var openFlags uint64
	switch uint64(n.nr) {
	case unix.SYS_OPEN:
		c.path, openFlags = at(here, n.args[0]), n.args[1]
	case unix.SYS_OPENAT:
		c.path, openFlags = at(n.args[0], n.args[1]), n.args[2]
	case unix.SYS_MKDIR:
		c.kind, c.path = "mkdir", at(here, n.args[0])
	case unix.SYS_MKDIRAT:
		c.kind, c.path = "mkdir", at(n.args[0], n.args[1])
	case unix.SYS_UNLINK:
		c.kind, c.path = "remove", at(here, n.args[0])
	case unix.SYS_UNLINKAT:
		c.kind, c.path = "remove", at(n.args[0], n.args[1])
	case unix.SYS_RENAME:
		c.kind, c.path, c.to = "rename", at(here, n.args[0]), at(here, n.args[1])
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		c.kind, c.path, c.to = "rename", at(n.args[0], n.args[1]), at(n.args[2], n.args[3])
	case unix.SYS_STATFS:
		c.kind, c.path = "statfs", at(here, n.args[0])
	default:
		c.path = fdPath(pid, int32(n.args[0]))
	}
	if c.path != s.root && !strings.HasPrefix(c.path, s.root+"/") {
		return c, false
	}
	switch uint64(n.nr) {
	case unix.SYS_OPEN, unix.SYS_OPENAT:
		_, err := os.Lstat(c.path)
		switch {
		case err != nil && openFlags&unix.O_CREAT != 0:
			c.kind = "create"
		case err == nil && openFlags&unix.O_TRUNC != 0:
			c.kind = "truncate"
		case openFlags&(unix.O_WRONLY|unix.O_RDWR) != 0:
			c.kind = "open"
		}
	case unix.SYS_PWRITE64:
		c.kind, c.off, c.data = "write", int64(n.args[3]), readBytes(pid, n.args[1], n.args[2])
	case unix.SYS_WRITE:
		c.kind, c.off, c.data = "write", fdOffset(pid, int32(n.args[0])), readBytes(pid, n.args[1], n.args[2])
	case unix.SYS_FTRUNCATE:
		c.kind, c.off = "truncate", int64(n.args[1])
	case unix.SYS_FALLOCATE:
		c.kind = "allocate"
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		info, err := os.Stat(c.path)
		c.kind, c.dir = "sync", err == nil && info.IsDir()
	}
	return c, c.kind != ""
}

func fdPath(pid int, fd int32) string {
	path, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/fd/" + strconv.Itoa(int(fd)))
	return path
}

// fdOffset is where a write without an offset goes.
func fdOffset(pid int, fd int32) (pos int64) {
	info, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/fdinfo/" + strconv.Itoa(int(fd)))
	fmt.Sscanf(string(info), "pos:%d", &pos)
	return pos
}

func (s *supervisor) pathAt(pid int, dirfd int32, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	if dirfd == unix.AT_FDCWD {
		dir, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd")
		return filepath.Join(dir, path)
	}
	return filepath.Join(fdPath(pid, dirfd), path)
}

func readBytes(pid int, address, n uint64) []byte {
	b := make([]byte, n)
	if n == 0 {
		return b
	}
	local := []unix.Iovec{{Base: &b[0], Len: n}}
	got, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(address), Len: int(n)}}, 0)
	if err != nil {
		return nil
	}
	return b[:got]
}

// readString reads a C string, a page at a time: what is behind its page may not be mapped.
func readString(pid int, address uint64) string {
	var text []byte
	for len(text) < unix.PathMax {
		part := readBytes(pid, address, 4096-address%4096)
		if end := bytes.IndexByte(part, 0); end >= 0 {
			return string(append(text, part[:end]...))
		}
		if len(part) == 0 {
			return ""
		}
		text, address = append(text, part...), address+uint64(len(part))
	}
	return ""
}

// statfs answers with a free space of the test's.
func (s *supervisor) statfs(n *notice, path string) answer {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return answer{id: n.id, err: -int32(unix.ENOENT)}
	}
	st.Bavail = uint64(s.free) / uint64(st.Bsize)
	b := unsafe.Slice((*byte)(unsafe.Pointer(&st)), unsafe.Sizeof(st))
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	if _, err := unix.ProcessVMWritev(int(n.pid), local, []unix.RemoteIovec{{Base: uintptr(n.args[1]), Len: len(b)}}, 0); err != nil {
		return answer{id: n.id, err: -int32(unix.EFAULT)}
	}
	return answer{id: n.id}
}

// startSupervised runs router serve under supervision.
func startSupervised(t *testing.T, s *supervisor, config string) *process {
	t.Helper()
	return startCommand(t, s.command(t, "serve", "--config", config))
}
