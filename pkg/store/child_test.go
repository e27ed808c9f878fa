package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// children are what this test binary does instead of testing, when it runs itself.
var children = map[string]func(dir string){
	"open":      childOpen,
	"crash":     childCrash,
	"disk full": childFileLimit,
}

func child(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_TEST_CHILD="+name, "STORE_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

func childOpen(dir string) {
	s, err := Open(dir, Options{})
	if err != nil {
		fmt.Print(err, " ", errors.Is(err, ErrInUse))
		return
	}
	s.Close()
	fmt.Print("opened")
}

func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	f := func(want ...string) {
		t.Helper()
		out, err := child(t, "open", dir).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range want {
			if !strings.Contains(string(out), want) {
				t.Errorf("the second process says %q, without %q", out, want)
			}
		}
	}
	f("in use", fmt.Sprint("process ", os.Getpid()), "true")
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second Open in this process: %v", err)
	}
	mustCommit(t, s, &Batch{Position: 1})
	mustClose(t, s)
	f("opened")
}

// Each hand-over makes one block of crashEntries entries, which are finished in these steps.
const crashEntries = 10

var crashSteps = []int{3, 7, crashEntries}

const crashOutcomes = 1 << 20

// childCrash hands over and works off, in two goroutines, until it is killed. It prints a line after each commit.
func childCrash(dir string) {
	s, err := Open(dir, Options{OutcomeBytes: crashOutcomes})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	lane, err := s.LaneID(contacts)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { crashHandOver(s, lane) })
	wg.Go(func() { crashWorkOff(s, lane) })
	wg.Wait()
}

func crashHandOver(s *Store, lane LaneID) {
	for n := s.Position() + 1; ; n++ {
		err := s.Commit(ctx, &Batch{
			Position: n, Seen: []uint64{s.Hash(itoa(n))}, Known: []uint64{s.Hash("key", itoa(n))},
			Blocks:      []Block{{Lane: lane, Entries: crashEntries, Oldest: at, Data: crashData(n)}},
			DeadLetters: []DeadLetter{{EventID: itoa(n), Event: crashData(n)}},
			Identities:  []Identity{{APIKey: "k", Kind: "user_id", Value: itoa(n), Email: itoa(n) + "@x", Seen: time.Now()}},
			Outcomes:    []Outcome{{EventID: itoa(n), Offset: n}},
		})
		if err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println("handed", n)
	}
}

// crashData is a size of its own for each hand-over, and can not be compressed.
func crashData(n uint64) []byte {
	return randomBytes(1 + int(n*7919%30_000))
}

func crashWorkOff(s *Store, lane LaneID) {
	for after := BlockID(0); ; {
		blocks, err := s.ReadBlocks(ctx, lane, after, 1<<20)
		if err != nil {
			fmt.Println("error", err)
			return
		}
		for _, b := range blocks {
			after = b.ID
			if b.ID%7 == 0 {
				continue // some stay
			}
			done := popCount(b.Done, crashEntries)
			for _, step := range crashSteps {
				if step <= done {
					continue
				}
				batch := &Batch{
					Progress: []Progress{{Lane: lane, Block: b.ID, Finished: step - done, Done: bitmap(step)}},
					Retries:  []Retry{{Ref: Ref{b.ID, crashEntries - 1}, Attempt: step}},
					Memories: []Memory{{s.Hash("memory", itoa(uint64(b.ID))), crashMemory(b.ID, step)}},
				}
				if step == crashEntries {
					batch.Delivered = []uint64{s.Hash("key", itoa(uint64(b.ID)))}
				}
				if err := s.Commit(ctx, batch); err != nil {
					fmt.Println("error", err)
					return
				}
				done = step
				fmt.Println("done", b.ID, step)
			}
		}
	}
}

// crashMemory has a size of its own for each block and step.
func crashMemory(block BlockID, step int) []byte {
	return bytes.Repeat([]byte{byte(block), byte(step)}, 1+int(block)*int(block)%1000)
}

func bitmap(n int) []byte {
	b := make([]byte, (crashEntries+7)/8)
	for i := range n {
		b[i/8] |= 1 << (i % 8)
	}
	return b
}

// TestKill kills a process at random moments of its commits. What it said is committed must be there, and everything that
// is there must be whole.
func TestKill(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	acked := crashAcked{done: make(map[BlockID]int)}
	for range rounds {
		acked.run(t, dir)
		acked.check(t, dir)
		if t.Failed() {
			return
		}
	}
	if acked.handed < uint64(rounds) || len(acked.done) == 0 {
		t.Errorf("only %d hand-overs and %d blocks worked on: this tested nothing", acked.handed, len(acked.done))
	}
}

type crashAcked struct {
	handed uint64
	done   map[BlockID]int
}

// run starts a child, kills it after a while and takes down what it said.
func (a *crashAcked) run(t *testing.T, dir string) {
	t.Helper()
	cmd := child(t, "crash", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 1 + rand.IntN(300); n > 0 && lines.Scan(); n-- {
		a.note(t, lines.Text())
	}
	time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, func() { cmd.Process.Kill() })
	for lines.Scan() {
		a.note(t, lines.Text())
	}
	io.Copy(io.Discard, out)
	cmd.Wait()
}

func (a *crashAcked) note(t *testing.T, line string) {
	var block BlockID
	var step int
	if _, err := fmt.Sscanf(line, "handed %d", &a.handed); err == nil {
		return
	}
	if _, err := fmt.Sscanf(line, "done %d %d", &block, &step); err != nil {
		t.Errorf("the child says %q", line) // a torn line is not possible: a print is one write
		return
	}
	a.done[block] = step
}

func (a *crashAcked) check(t *testing.T, dir string) {
	t.Helper()
	ro, err := OpenReadOnly(dir, nil) // with what the dead process left
	if err != nil {
		t.Fatal(err)
	}
	position := ro.Position()
	ro.Close()
	s := mustOpen(t, dir, Options{OutcomeBytes: crashOutcomes})
	defer mustClose(t, s)
	if s.Position() != position {
		t.Errorf("position %d, read-only it was %d", s.Position(), position)
	}
	if position < a.handed || position > a.handed+1 {
		t.Fatalf("position %d, acknowledged was %d", position, a.handed)
	}
	a.checkHandedOver(t, s, position)
	a.checkBlocks(t, s, position)
}

func (a *crashAcked) checkHandedOver(t *testing.T, s *Store, position uint64) {
	letters, err := s.DeadLetters(ctx, DeadLetterQuery{OldestFirst: true, Bodies: true, Limit: 1 << 20})
	if err != nil || uint64(len(letters)) != position {
		t.Fatalf("%d dead letters at position %d, %v", len(letters), position, err)
	}
	for n := uint64(1); n <= position+1; n++ {
		there := n <= position
		if there && (letters[n-1].EventID != itoa(n) || !slices.Equal(letters[n-1].Event, crashData(n))) {
			t.Errorf("dead letter %d is of event %s", n, letters[n-1].EventID)
		}
		known, delivered := s.Known(s.Hash("key", itoa(n)))
		if s.Seen(s.Hash(itoa(n))) != there || known != there || delivered && !there {
			t.Errorf("hand-over %d at position %d: seen %v, known %v", n, position, s.Seen(s.Hash(itoa(n))), known)
		}
		if _, ok, err := s.Identity("k", "user_id", itoa(n)); ok != there || err != nil {
			t.Errorf("hand-over %d at position %d: identity %v, %v", n, position, ok, err)
		}
		if found := mustOutcomes(t, s, OutcomeQuery{EventID: itoa(n)}); len(found) == 1 != there {
			t.Errorf("hand-over %d at position %d: %d outcomes", n, position, len(found))
		}
	}
}

func (a *crashAcked) checkBlocks(t *testing.T, s *Store, position uint64) {
	lane := mustLane(t, s, contacts)
	sum := Lane{ID: lane, Name: contacts}
	next := BlockID(1)
	for _, b := range mustRead(t, s, lane, 0, 1<<40) {
		for ; next < b.ID; next++ {
			a.checkStep(t, s, next, crashEntries)
		}
		next++
		done := popCount(b.Done, crashEntries)
		a.checkStep(t, s, b.ID, done)
		if !slices.Equal(b.Data, crashData(uint64(b.ID))) {
			t.Errorf("block %d has other data", b.ID)
		}
		if (len(b.Retries) > 0) != (done > 0) {
			t.Errorf("block %d: %d done, %d retries", b.ID, done, len(b.Retries))
		}
		sum.Entries += int64(crashEntries - done)
		sum.Bytes += b.Bytes
		sum.Oldest = at
	}
	for ; next <= BlockID(position); next++ {
		a.checkStep(t, s, next, crashEntries)
	}
	if next != BlockID(position)+1 {
		t.Errorf("there is a block %d at position %d", next-1, position)
	}
	if got := s.Lanes()[0]; got != sum {
		t.Errorf("lane %+v, its blocks make %+v", got, sum)
	}
}

// checkStep: a block is where the last acknowledged step brought it, or one further.
func (a *crashAcked) checkStep(t *testing.T, s *Store, block BlockID, done int) {
	t.Helper()
	was := a.done[block]
	if i := slices.Index(crashSteps, was); done != was && done != crashSteps[i+1] {
		t.Errorf("block %d: %d entries are finished, acknowledged were %d", block, done, was)
	}
	if _, delivered := s.Known(s.Hash("key", itoa(uint64(block)))); delivered != (done == crashEntries) {
		t.Errorf("block %d: %d entries are finished, delivered is %v", block, done, delivered)
	}
	var want []byte
	if done > 0 {
		want = crashMemory(block, done)
	}
	if got := mustRecall(t, s, s.Hash("memory", itoa(uint64(block)))); !slices.Equal(got[0], want) {
		t.Errorf("block %d: %d entries are finished, %.10x is remembered", block, done, got[0])
	}
	a.done[block] = done
}

// childFileLimit lets the disk fail under a store: files may not grow beyond a limit.
func childFileLimit(dir string) {
	signal.Ignore(unix.SIGXFSZ)
	s, err := Open(dir, Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	lane, _ := s.LaneID(contacts)
	if err := s.Commit(ctx, &Batch{Position: 1, Blocks: []Block{{Lane: lane, Entries: 1, Data: randomBytes(1000)}}}); err != nil {
		fmt.Println(err)
		return
	}
	limit := uint64(s.Stats().WALBytes + 64<<10)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		fmt.Println(err)
		return
	}
	err = s.Commit(ctx, &Batch{Position: 2, Blocks: []Block{{Lane: lane, Entries: 1, Data: randomBytes(1 << 20)}}})
	fmt.Println("failed", errors.Is(err, ErrFailed))
	<-s.Failed()
	err = s.Commit(ctx, &Batch{Position: 3})
	fmt.Println("and later", errors.Is(err, ErrFailed), errors.Is(s.Err(), ErrFailed), s.Position())
	_, err = s.LaneID(LaneName{Destination: "new"})
	fmt.Println("lane", errors.Is(err, ErrFailed), len(mustReadChild(s, lane)))
	fmt.Println("close", errors.Is(s.Close(), ErrFailed))
}

func mustReadChild(s *Store, lane LaneID) []StoredBlock {
	blocks, err := s.ReadBlocks(ctx, lane, 0, 1<<20)
	if err != nil {
		fmt.Println(err)
	}
	return blocks
}

func TestDiskFails(t *testing.T) {
	dir := t.TempDir()
	out, err := child(t, "disk full", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := "failed true\nand later true true 1\nlane true 1\nclose true\n"
	if string(out) != want {
		t.Errorf("the process says\n%s, want\n%s", out, want)
	}
	s := mustOpen(t, dir, Options{})
	if got := s.Position(); got != 1 {
		t.Errorf("position %d after reopening", got)
	}
	if got := len(mustRead(t, s, mustLane(t, s, contacts), 0, 1<<20)); got != 1 {
		t.Errorf("%d blocks after reopening", got)
	}
}
