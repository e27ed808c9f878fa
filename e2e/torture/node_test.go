package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// sdk is a program in node that posts with an SDK: ../sdk/torture_*.mjs. It is told events, a line each, and says of each what came of it.
type sdk struct {
	crowd
	x     *torture
	cmd   *exec.Cmd
	stdin io.WriteCloser
	said  chan struct{} // closed when it has said all

	mu     sync.Mutex // guards the fields below
	asked  map[int]*entry
	taught map[string]bool // persons whose ids the router has surely learned
}

func (x *torture) newSDK(name, script, address, key string) *sdk {
	x.t.Helper()
	s := &sdk{crowd: x.crowd(name, false), x: x, said: make(chan struct{}), asked: map[int]*entry{}, taught: map[string]bool{}}
	s.cmd = exec.Command("node", script, "http://"+address, key)
	dieWithUs(s.cmd)
	s.cmd.Dir = "../sdk"
	said, err := os.Create(filepath.Join(x.dir, name+".log"))
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { said.Close() })
	s.cmd.Stderr = said
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		x.t.Fatal(err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		x.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		x.t.Fatalf("%v: run e2e/install.sh", err)
	}
	x.t.Cleanup(func() {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	})
	go s.listen(stdout)
	return s
}

// listen takes in what the program says.
func (s *sdk) listen(stdout io.Reader) {
	defer close(s.said)
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var said struct {
			N  int
			OK bool
		}
		if err := json.Unmarshal(lines.Bytes(), &said); err != nil {
			s.x.t.Errorf("%s said %q", s.client, lines.Text())
			continue
		}
		s.mu.Lock()
		e := s.asked[said.N]
		if e != nil && said.OK {
			s.ledger.ack(e)
			if e.Kind == identify {
				s.taught[e.Person] = true
			}
		}
		delete(s.asked, said.N)
		s.mu.Unlock()
	}
}

// posts tells the program what to post until stop, then waits until it has said what came of everything. At end it is killed: what it would
// post later, after a pause of a minute, came after the verdict.
func (s *sdk) posts(stop, end context.Context) {
	for stop.Err() == nil {
		s.mu.Lock()
		under := len(s.asked)
		s.mu.Unlock()
		if under < 30 {
			s.tell()
		}
		time.Sleep(time.Duration(s.rnd.IntN(80)) * time.Millisecond)
	}
	s.stdin.Close()
	select {
	case <-s.said:
	case <-end.Done():
		s.cmd.Process.Kill()
		<-s.said
	}
}

// tell names one event to post. Its person's e-mail stands in identifies alone: the router remembers whose the user's id is.
func (s *sdk) tell() {
	person := s.person()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := entry{Client: s.client, Kind: identify, Person: person}
	if s.taught[person] && s.rnd.IntN(2) == 0 {
		e.Kind = track
	}
	p := s.enter(e)
	if s.client == "jitsu" && p.Kind == identify {
		p.Props = []string{"seq", "plan", "tier"} // the SDK sends what it was told before of a user again
	}
	s.ledger.tried(p)
	s.asked[p.N] = p
	line, _ := json.Marshal(p)
	if _, err := s.stdin.Write(append(line, '\n')); err != nil {
		s.x.t.Errorf("%s: %v", s.client, err)
	}
}
