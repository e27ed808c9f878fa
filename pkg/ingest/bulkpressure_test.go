package ingest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
)

// numbered is n lines with the ids from+1, from+2, …
func numbered(from, n int) []byte {
	var text bytes.Buffer
	for i := range n {
		fmt.Fprintf(&text, `{"event_id":"%d","pad":%q}`+"\n", from+i+1, strings.Repeat("x", 500))
	}
	return text.Bytes()
}

// wantNumbered checks that the events 1 to n are stored, each once and in order.
func wantNumbered(t *testing.T, evs []event.Event, n int) {
	t.Helper()
	for i, ev := range evs {
		if ev.ID != fmt.Sprint(i+1) {
			t.Fatalf("event %d has the id %s", i+1, ev.ID)
		}
	}
	if len(evs) != n {
		t.Fatalf("%d events stored, want %d", len(evs), n)
	}
}

// impatient serves o. Uploads wait for room no longer than patience, and are cut off when they send nothing for readTime.
func impatient(t *testing.T, o Options, patience, readTime time.Duration) (addr string, stop func(), ended <-chan error) {
	t.Helper()
	s := newServer(t, o)
	s.bulkPatience, s.bulkReadTime = patience, readTime
	addr, stop, ended = serve(t, s)
	t.Cleanup(func() {
		client.CloseIdleConnections()
		stop()
	})
	return addr, stop, ended
}

// smallLog is full after so many records.
type smallLog struct {
	memoryLog
	room atomic.Int64
}

func (l *smallLog) Append(recs ...[]byte) error {
	if l.room.Add(-int64(len(recs))) < 0 {
		l.room.Add(int64(len(recs)))
		return log.ErrFull
	}
	return l.memoryLog.Append(recs...)
}

// TestBulkLogFull: an upload that finds the log full waits, is told how far it came, and goes on there: nothing is lost or there twice.
func TestBulkLogFull(t *testing.T) {
	const n = 10_000
	small := &smallLog{}
	small.room.Store(4500)
	addr, _, _ := impatient(t, testOptions(small), 150*time.Millisecond, 20*time.Second)
	base := "http://" + addr

	got := send(t, "POST", base+bulkPath, numbered(0, n))
	r := readReport(t, got.body)
	if got.status != 503 || got.header.Get("Retry-After") != "5" || r.Accepted < 1000 || r.Accepted > 4500 || r.NextLine != r.Accepted+1 || r.Error != "log is full" {
		t.Fatalf("%d %v %+v", got.status, got.header, r)
	}
	small.room.Store(n)
	if status, r := uploadOf(t, base, fmt.Sprintf("&first_line=%d", r.NextLine), numbered(int(r.Accepted), n-int(r.Accepted))); status != 200 || r.NextLine != n+1 {
		t.Fatalf("%d %+v", status, r)
	}
	wantNumbered(t, small.take(t), n)
}

// TestBulkWaitsForRoom: an upload for which room is made in time notices nothing.
func TestBulkWaitsForRoom(t *testing.T) {
	const n = 5000
	small := &smallLog{}
	var refused atomic.Bool
	o := testOptions(small)
	var asked sync.Once
	o.Refused = func(key string, class event.Class) (string, bool) {
		if class != event.Bulk || key != "key1" {
			return "", false
		}
		asked.Do(func() { time.AfterFunc(200*time.Millisecond, func() { small.room.Store(n); refused.Store(true) }) })
		return "lane full", !refused.Load()
	}
	addr, _, _ := impatient(t, o, 20*time.Second, 20*time.Second)
	if status, r := uploadOf(t, "http://"+addr, "", numbered(0, n)); status != 200 || r.Accepted != n {
		t.Fatalf("%d %+v", status, r)
	}
	wantNumbered(t, small.take(t), n)
}

// TestBulkLaneFull: a lane that refuses in the middle stops the upload with its reason, also when the client has gigabytes more to send.
func TestBulkLaneFull(t *testing.T) {
	memory := &memoryLog{}
	o := testOptions(memory)
	var asked atomic.Int64
	o.Refused = func(string, event.Class) (string, bool) {
		return "lane contacts of destination hub is full", asked.Add(1) > 10
	}
	addr, _, _ := impatient(t, o, 50*time.Millisecond, 20*time.Second)
	pr, pw := io.Pipe()
	go func() { // until the server has answered
		line := numbered(0, 1)
		for {
			if _, err := pw.Write(bytes.Repeat(line, 100)); err != nil {
				return
			}
		}
	}()
	defer pr.Close()
	resp, err := http.Post("http://"+addr+bulkPath, "", pr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	r := readReport(t, string(body))
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "5" || r.Error != "lane contacts of destination hub is full" ||
		r.Accepted < 5000 || r.NextLine != r.Accepted+1 || int64(len(memory.take(t))) != r.Accepted {
		t.Fatalf("%d %+v", resp.StatusCode, r)
	}
}

// dialUpload sends the beginning of an upload by hand.
func dialUpload(t *testing.T, addr, header string, body []byte) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n", bulkPath, header)
	if _, err := conn.Write(body); err != nil {
		t.Fatal(err)
	}
	return conn
}

// readAnswer reads one answer; closed says whether the connection ends behind it.
func readAnswer(t *testing.T, conn net.Conn) (status int, r report, closed bool) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	if resp.Close {
		if _, err := in.ReadByte(); err == nil {
			t.Error("something follows the last answer")
		}
	}
	return resp.StatusCode, readReport(t, string(body)), resp.Close
}

// TestBulkCut: a body that ends too early is stored up to its last whole line, where it is too large to be taken whole, and not at all
// otherwise. The rest goes on there.
func TestBulkCut(t *testing.T) {
	const n = 5000
	whole := numbered(0, n) // more than max_body_size, 1 MiB
	lineBytes := len(whole) / n
	for _, chunked := range []bool{false, true} {
		for _, size := range []int{len(whole)/2 + 7, 300_000, 2000 * lineBytes} {
			memory := &memoryLog{}
			addr, _, _ := impatient(t, testOptions(memory), 20*time.Second, 20*time.Second)
			header, body := fmt.Sprintf("Content-Length: %d\r\n", len(whole)), whole[:size]
			if chunked {
				header, body = "Transfer-Encoding: chunked\r\n", fmt.Appendf(nil, "%x\r\n%s\r\n", size, body)
			}
			conn := dialUpload(t, addr, header, body)
			_ = conn.(*net.TCPConn).CloseWrite()
			status, r, closed := readAnswer(t, conn)
			if status != 400 || !closed || r.Message != "Request body ended too early" || r.NextLine != r.Accepted+1 || (size < 1<<20) != (r.Accepted == 0) {
				t.Fatalf("chunked %v, %d bytes: %d %+v", chunked, size, status, r)
			}
			rest := whole[bytes.Index(whole, fmt.Appendf(nil, `{"event_id":"%d"`, r.NextLine)):]
			if status, r := uploadOf(t, "http://"+addr, fmt.Sprintf("&first_line=%d", r.NextLine), rest); status != 200 {
				t.Fatalf("%d %+v", status, r)
			}
			wantNumbered(t, memory.take(t), n)
		}
	}
}

// TestCutChunks: the same in a common request.
func TestCutChunks(t *testing.T) {
	memory := &memoryLog{}
	addr, _, _ := impatient(t, testOptions(memory), 20*time.Second, 20*time.Second)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /s2s/events?token=s2s.open HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
	_ = conn.(*net.TCPConn).CloseWrite()
	if status, r, _ := readAnswer(t, conn); status != 400 || r.Message != "Request body ended too early" || len(memory.take(t)) != 0 {
		t.Errorf("%d %+v", status, r)
	}
}

// TestBulkSlow: who sends nothing for long, or too little, is cut off and told how far it came.
func TestBulkSlow(t *testing.T) {
	memory := &memoryLog{}
	addr, _, _ := impatient(t, testOptions(memory), 20*time.Second, 200*time.Millisecond)
	body := numbered(0, 3000)
	conn := dialUpload(t, addr, "Content-Length: 100000000\r\n", body)
	if status, r, closed := readAnswer(t, conn); status != 408 || !closed || r.Accepted != 3000 || r.NextLine != 3001 {
		t.Errorf("nothing for long: %d %+v", status, r)
	}
	wantNumbered(t, memory.take(t), 3000)
}

// TestBulkSlowRate: the time of a whole request does not hold for an upload, a least rate does.
func TestBulkSlowRate(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	b := &uploadBody{stream: ours, conn: ours, announced: 1 << 30, readTime: time.Hour, leastRate: 1000, stopping: func() bool { return false }}
	b.received, b.waited = 100_000, bulkSlowTime+99*time.Second // one second is left
	go theirs.Write(make([]byte, 100))
	if n, err := b.Read(make([]byte, 100)); n != 100 || err != nil {
		t.Fatal(n, err)
	}
	b.waited = bulkSlowTime + 101*time.Second
	if _, err := b.Read(make([]byte, 100)); err != errSlow {
		t.Errorf("too slow: %v", err)
	}
}

// TestBulkStop: a router that stops does not wait for the end of an upload: it says how far that came.
func TestBulkStop(t *testing.T) {
	memory := &memoryLog{}
	addr, stop, ended := impatient(t, testOptions(memory), 20*time.Second, 20*time.Second)
	conn := dialUpload(t, addr, "Content-Length: 100000000\r\n", numbered(0, 10_000))
	for {
		memory.mu.Lock()
		n := len(memory.recs)
		memory.mu.Unlock()
		if n > 1000 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	stop()
	status, r, closed := readAnswer(t, conn)
	if status != 503 || !closed || r.Error != "the router is stopping" || r.NextLine != r.Accepted+1 {
		t.Errorf("%d %+v", status, r)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	wantNumbered(t, memory.take(t), int(r.Accepted))
}

// TestBulkTooMany: one key does not take the memory of all.
func TestBulkTooMany(t *testing.T) {
	s := newServer(t, testOptions(&memoryLog{}))
	addr, stop, _ := serve(t, s)
	t.Cleanup(stop)
	t.Cleanup(client.CloseIdleConnections)
	for range maxUploadsPerKey {
		dialUpload(t, addr, "Content-Length: 100\r\n", []byte("{"))
	}
	for s.uploads.underWay() < maxUploadsPerKey {
		time.Sleep(time.Millisecond)
	}
	if got := send(t, "POST", "http://"+addr+bulkPath, []byte("{}")); got.status != 503 || got.header.Get("Retry-After") != "5" {
		t.Errorf("one more: %d %s", got.status, got.body)
	}
	if got := send(t, "POST", "http://"+addr+"/api/v1/events/bulk?token=s2s.open", []byte("{}")); got.status != 200 {
		t.Errorf("another key: %d %s", got.status, got.body)
	}
	if got := send(t, "POST", "http://"+addr+"/s2s/event?token=s2s.secret", []byte("{}")); got.status != 200 {
		t.Errorf("a live event: %d %s", got.status, got.body)
	}
}

// TestBulkKeepsConnection: behind a refused line the connection takes the next request.
func TestBulkKeepsConnection(t *testing.T) {
	memory := &memoryLog{}
	addr, _, _ := impatient(t, testOptions(memory), 20*time.Second, 20*time.Second)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for i, body := range []string{"{}\nno\n", "[1", "{}", "\x1f\x8b", "{}"} {
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", bulkPath, len(body), body)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if want := map[string]int{"{}": 200}[body]; want == 0 && resp.StatusCode != 400 || want != 0 && resp.StatusCode != want || resp.Close {
			t.Errorf("request %d: %d, closed %v", i, resp.StatusCode, resp.Close)
		}
	}
	if n := len(memory.take(t)); n != 2 {
		t.Errorf("%d events stored", n)
	}
}

func (u *uploads) underWay() float64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return float64(u.count)
}
