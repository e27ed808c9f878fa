// Package trial is what tests of several packages share: how long those with generated cases run, a buffer for what is logged, and addresses to listen on. Nothing else imports it.
package trial

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Rounds is how many generated cases a test plays: n, which finds the faults that it is for, or as many times more as the variable ROUNDS says.
func Rounds(t testing.TB, n int) int {
	t.Helper()
	text := os.Getenv("ROUNDS")
	if text == "" {
		return n
	}
	times, err := strconv.Atoi(text)
	if err != nil || times < 1 {
		t.Fatalf("ROUNDS is %q, want how many times as long the test shall run", text)
	}
	return n * times
}

// Log keeps what is written to it, by a logger say. The zero Log is empty; it may be used from many goroutines.
type Log struct {
	mu sync.Mutex // guards the field below
	b  bytes.Buffer
}

// Write appends p and does not fail.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all that has been written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Count is how often text has been written.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }

// FreeAddress is one that a process can listen on again after a pause. Its port is below those that systems give to outgoing connections, of which one might else have taken it meanwhile.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000))
		if ln, err := net.Listen("tcp", address); err == nil {
			ln.Close()
			return address
		}
	}
	t.Fatal("a hundred ports from 10000 to 31999 are taken")
	return ""
}
