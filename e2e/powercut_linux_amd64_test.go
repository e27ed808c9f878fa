package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// A power cut is played from the trace of a router's file calls: of each file that is kept which was written before its last sync, and of the rest what
// chance leaves, in sectors; of each folder the names that it had at its last sync, and of the changes after it what chance leaves. So it is stricter than most
// file systems, which keep more order.

// platter is the disk of a trace up to some call.
type platter struct {
	root *node
}

// node is a file or a folder: what is durable of it, and what is not yet.
type node struct {
	folder bool

	data    []byte // of a file
	pending []change

	names   map[string]*node // of a folder, as the process sees it
	durable map[string]*node // as a power cut would leave it
	renames []nameChange     // made since
}

// change is a write, or a truncation to off if data is nil.
type change struct {
	off  int64
	data []byte
}

// nameChange puts a node under a name in one folder, and takes it away from another: as one, which a rename is.
type nameChange struct {
	to   string
	node *node // nil: the name goes
	from string
	dir  *node // where from is; nil: nothing goes
}

func newFolder() *node {
	return &node{folder: true, names: map[string]*node{}, durable: map[string]*node{}}
}

// find returns the folder of a path and the last name.
func (p *platter) find(path string) (*node, string) {
	dir := p.root
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for _, name := range parts[:len(parts)-1] {
		if dir = dir.names[name]; dir == nil {
			return nil, ""
		}
	}
	return dir, parts[len(parts)-1]
}

// play makes one call, with its path below the root.
func (p *platter) play(c fileCall, path, to string) error {
	if path == "" || path == "." {
		if c.kind == "sync" {
			p.root.settle()
		}
		return nil
	}
	dir, name := p.find(path)
	if dir == nil {
		return fmt.Errorf("%v: no folder", c)
	}
	n := dir.names[name]
	switch c.kind {
	case "create", "mkdir":
		if n != nil {
			return nil // another thread made it
		}
		n = &node{}
		if c.kind == "mkdir" {
			n = newFolder()
		}
		dir.names[name] = n
		dir.renames = append(dir.renames, nameChange{to: name, node: n})
	case "remove":
		delete(dir.names, name)
		dir.renames = append(dir.renames, nameChange{to: name})
	case "rename":
		into, newName := p.find(to)
		if into == nil || n == nil {
			return fmt.Errorf("%v: no folder", c)
		}
		delete(dir.names, name)
		into.names[newName] = n
		into.renames = append(into.renames, nameChange{to: newName, node: n, from: name, dir: dir})
	case "write", "truncate", "allocate":
		if n == nil {
			return nil // it was removed while open
		}
		if c.kind == "write" {
			n.pending = append(n.pending, change{c.off, c.data})
		} else if c.kind == "truncate" {
			n.pending = append(n.pending, change{off: c.off})
		}
	case "sync":
		if n != nil {
			n.settle()
		}
	}
	return nil
}

// settle is a sync.
func (n *node) settle() {
	if n.folder {
		n.durable = map[string]*node{}
		for name, child := range n.names {
			n.durable[name] = child
		}
		n.renames = nil
		return
	}
	for _, c := range n.pending {
		n.data = c.apply(n.data)
	}
	n.pending = nil
}

func (c change) apply(b []byte) []byte {
	if c.data == nil {
		if c.off > int64(len(b)) {
			return append(b, make([]byte, c.off-int64(len(b)))...)
		}
		return b[:c.off]
	}
	if end := int(c.off) + len(c.data); end > len(b) {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[c.off:], c.data)
	return b
}

// image writes what a power cut leaves to a folder. luck is how likely each thing that was not synced is there all the same.
func (n *node) image(path string, luck float64, rng *rand.Rand) error {
	if !n.folder {
		b := bytes.Clone(n.data)
		for _, c := range n.pending {
			for _, part := range c.sectors() {
				if rng.Float64() < luck {
					b = part.apply(b)
				}
			}
		}
		return os.WriteFile(path, b, 0o600)
	}
	names := map[string]*node{}
	for name, child := range n.durable {
		names[name] = child
	}
	for _, r := range n.renames {
		if rng.Float64() >= luck {
			continue
		}
		if r.dir == n {
			delete(names, r.from)
		}
		if r.node == nil {
			delete(names, r.to)
		} else {
			names[r.to] = r.node
		}
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for name, child := range names {
		if strings.HasSuffix(name, "-shm") {
			continue // memory that processes share: SQLite makes it anew
		}
		if err := child.image(filepath.Join(path, name), luck, rng); err != nil {
			return err
		}
	}
	return nil
}

// sectors are the parts of a change that a disk writes whole.
func (c change) sectors() (parts []change) {
	const sector = 512
	if c.data == nil {
		return []change{c}
	}
	for off, data := c.off, c.data; len(data) > 0; {
		n := min(len(data), sector-int(off%sector))
		parts = append(parts, change{off, data[:n]})
		off, data = off+int64(n), data[n:]
	}
	return parts
}

// sightings are what HubSpot was sent, and when: by the number of file calls before it.
type sightings struct {
	mu   sync.Mutex
	now  func() int
	all  []sighting
	next http.Handler
}

type sighting struct {
	at    int
	email string // of a write of seq to a contact
	seq   int
	mark  string // of a custom event with this uuid
	uuid  string
}

var (
	eventSeen   = regexp.MustCompile(`"mark":"([^"]*)"`)
	uuidSeen    = regexp.MustCompile(`"uuid":"([^"]*)"`)
	contactSeen = regexp.MustCompile(`"email":"([^"]*)"`)
	seqSeen     = regexp.MustCompile(`"seq":"?(\d+)`)
)

// ServeHTTP notes a call and has the sandbox answer it.
func (s *sightings) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	at := s.now()
	s.mu.Lock()
	for _, input := range inputs(body) {
		mark, email, seq := eventSeen.FindStringSubmatch(input), contactSeen.FindStringSubmatch(input), seqSeen.FindStringSubmatch(input)
		switch uuid := uuidSeen.FindStringSubmatch(input); {
		case mark != nil && uuid != nil:
			s.all = append(s.all, sighting{at: at, mark: mark[1], uuid: uuid[1]})
		case email != nil && seq != nil:
			n, _ := strconv.Atoi(seq[1])
			s.all = append(s.all, sighting{at: at, email: email[1], seq: n})
		}
	}
	s.mu.Unlock()
	s.next.ServeHTTP(w, r)
}

// before are those before a file call.
func (s *sightings) before(at int) (some []sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.all {
		if v.at <= at {
			some = append(some, v)
		}
	}
	return some
}

// acknowledged is an event that was answered with 200 after so many file calls.
type acknowledged struct {
	at    int
	email string
	seq   int
	mark  string // "": it wrote seq to the contact
}

const forever = 1 << 62

// watchedHub is a sandbox whose calls are noted.
func watchedHub(t *testing.T, now func() int) (*sightings, string) {
	t.Helper()
	h := newHub(t, sandbox.Options{})
	seen := &sightings{now: now, next: h.Sandbox}
	srv := httptest.NewServer(seen)
	t.Cleanup(srv.Close)
	return seen, srv.URL
}

// TestPowerCut cuts the power of a router, with all its logs and its store, at many moments of one run, and starts it on what the disk would then hold:
// all that was acknowledged before is delivered, custom events under one uuid each, and contacts end with their last value. Files whose folder was not
// synced may be gone, and of what was not synced some sectors are there and some are not.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	moments := 4
	if n, err := strconv.Atoi(os.Getenv("E2E_POWER_CUTS")); err == nil {
		moments = n // as many as one likes
	}
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 7))
	dir := t.TempDir()
	s := newSupervisor(dir)
	s.keep = true
	seen, url := watchedHub(t, s.now)
	config := configure(t, dir, url)
	limitLog(t, config)
	acks := livesUnderTrace(t, s, config)

	p := &platter{root: newFolder()}
	at := 0
	for m := range moments {
		until := len(s.trace) * (m + 1) / (moments + 1)
		until += rng.IntN(len(s.trace) / (moments + 1))
		for ; at < until; at++ {
			c := s.trace[at]
			if err := p.play(c, below(s.root, c.path), below(s.root, c.to)); err != nil {
				t.Fatal(err)
			}
		}
		for _, luck := range []float64{0, 0.5} {
			dir, before, at := t.TempDir(), seen.before(at), at
			if err := p.root.image(dir, luck, rng); err != nil {
				t.Fatal(err)
			}
			t.Run(fmt.Sprintf("call %d of %d, luck %v", at, len(s.trace), luck), func(t *testing.T) {
				t.Parallel()
				afterPowerCut(t, dir, acks, before, at)
			})
		}
	}
}

func below(root, path string) string {
	rel, err := filepath.Rel(root, path)
	if err != nil || rel == "." {
		return ""
	}
	return rel
}

// limitLog has the log's segments be small, so that some come and go.
func limitLog(t *testing.T, config string) {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("server:\n"), []byte("server:\n  max_log_bytes: 300KiB\n"), 1)
	if err := os.WriteFile(config, bytes.Replace(text, []byte("late_after: 2s"), []byte("late_after: 100ms"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

// livesUnderTrace has applications post to a supervised router and returns what was acknowledged.
func livesUnderTrace(t *testing.T, s *supervisor, config string) (acks []acknowledged) {
	t.Helper()
	const producers, posts, persons = 4, 40, 3
	var mu sync.Mutex
	p := startSupervised(t, s, config)
	var wg sync.WaitGroup
	pad := strings.Repeat("0123456789abcdef", 200) // segments fill up
	for n := range producers {
		wg.Go(func() {
			client := clientFor(t)
			for seq := 1; seq <= posts; seq++ {
				a := acknowledged{email: fmt.Sprintf("p%d.%d@example.com", n, seq%persons), seq: seq}
				body := fmt.Sprintf(`{"event_id":"%d-%d","event_type":"user_identify","pad":%q,"user":{"email":%q,"seq":%d}}`, n, seq, pad, a.email, seq)
				if seq%2 == 0 {
					a.mark = fmt.Sprintf("%d-%d", n, seq)
					body = fmt.Sprintf(`{"event_id":"%d-%d","event_type":"step","user":{"email":%q},"mark":%q}`, n, seq, a.email, a.mark)
				}
				if status, answer, err := post(client, p.url, body); status != http.StatusOK {
					t.Errorf("answer %d %s %v", status, answer, err)
					return
				}
				a.at = s.now()
				mu.Lock()
				acks = append(acks, a)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	p.drain(30 * time.Second)
	if err := p.terminate(); err != nil {
		t.Fatal(err)
	}
	<-s.ended
	return acks
}

// afterPowerCut starts a router on what a power cut left in a folder and checks what is delivered, with what was before.
func afterPowerCut(t *testing.T, dir string, acks []acknowledged, before []sighting, at int) {
	seen, url := watchedHub(t, func() int { return 0 })
	config := configure(t, dir, url)
	limitLog(t, config)
	r := start(t, config)
	r.drain(30 * time.Second)
	if err := r.terminate(); err != nil {
		t.Error(err)
	}
	uuids := map[string]map[string]bool{}
	contacts := map[string]int{}
	for _, v := range append(before, seen.before(forever)...) {
		if v.mark == "" {
			contacts[v.email] = v.seq
			continue
		}
		if uuids[v.mark] == nil {
			uuids[v.mark] = map[string]bool{}
		}
		uuids[v.mark][v.uuid] = true
	}
	expected := 0
	for _, a := range acks {
		if a.at > at {
			continue
		}
		expected++
		if a.mark != "" && len(uuids[a.mark]) != 1 {
			t.Errorf("event %s, acknowledged after call %d, has %d uuids", a.mark, a.at, len(uuids[a.mark]))
		}
		if a.mark == "" && contacts[a.email] < a.seq {
			t.Errorf("contact %s has seq %d, acknowledged after call %d was %d", a.email, contacts[a.email], a.at, a.seq)
		}
	}
	t.Logf("%d were acknowledged, %d outputs were sent before, %d after", expected, len(before), len(seen.before(forever)))
}

// inputs are the texts of the inputs of a batch call.
func inputs(body []byte) (texts []string) {
	gjson.GetBytes(body, "inputs").ForEach(func(_, v gjson.Result) bool { texts = append(texts, v.Raw); return true })
	return texts
}
