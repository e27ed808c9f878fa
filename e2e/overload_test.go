package e2e

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	bin "encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// overload is a router under attack from 127.0.0.2, beside a client of 127.0.0.1 that goes on posting one event after the other.
type overload struct {
	*testing.T
	p    *process
	addr string
	base float64 // MiB resident before

	attacker, client *http.Client
}

// overloadMiB is what the process may have in memory beside what it had before: a race detector's shadow takes five to ten times what is used.
const overloadMiB = 1500

func from(ip string) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).DialContext, MaxIdleConnsPerHost: 100,
	}}
}

// dial opens an attacker's connection.
func (o *overload) dial() net.Conn {
	o.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}, Timeout: 10 * time.Second}).Dial("tcp", o.addr)
	if err != nil {
		o.Fatal(err)
	}
	return conn
}

// during runs an attack while the other client posts, which must be answered with 200 each time; it logs the times of that and the memory afterwards.
func (o *overload) during(name string, attack func()) {
	o.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var took []time.Duration
	var posting sync.WaitGroup
	posting.Go(func() {
		for n := 0; ctx.Err() == nil || n < 5; n++ {
			began := time.Now()
			status, body, err := post(o.client, o.p.url, `{"event_type":"user_identify","user":{"email":"other@example.com"}}`)
			if err != nil || status != http.StatusOK {
				o.Errorf("%s: another client is answered %d %s, %v", name, status, body, err)
				return
			}
			took = append(took, time.Since(began))
		}
	})
	attack()
	cancel()
	posting.Wait()
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	resident := o.p.rss()
	o.Logf("%-40s another client: %5d posts, median %v, p99 %v; %.0f MiB", name, len(took), took[len(took)/2].Round(10*time.Microsecond),
		took[len(took)*99/100].Round(10*time.Microsecond), resident)
	if resident-o.base > overloadMiB {
		o.Errorf("%s: %.0f MiB are resident, %.0f before it all", name, resident, o.base)
	}
}

// wants posts an attacker's body, four times at once, and wants the status.
func (o *overload) wants(status int, path string, body func() io.Reader, header ...string) {
	o.Helper()
	var posting sync.WaitGroup
	for range 4 {
		posting.Go(func() {
			req, err := http.NewRequest(http.MethodPost, o.p.url+path, body())
			if err != nil {
				o.Error(err)
				return
			}
			req.Header.Set("X-Auth-Token", serverSecret)
			for i := 0; i < len(header); i += 2 {
				req.Header.Set(header[i], header[i+1])
			}
			res, err := o.attacker.Do(req)
			if err != nil {
				o.Errorf("%s: no answer: %v", path, err)
				return
			}
			defer res.Body.Close()
			text, _ := io.ReadAll(res.Body)
			// Large requests take turns, and who waits too long for one is told so.
			if res.StatusCode != status && res.StatusCode != http.StatusServiceUnavailable || len(text) == 0 || len(text) > 10_000 {
				o.Errorf("%s: %s: %.300s, want %d", path, res.Status, text, status)
			}
		})
	}
	posting.Wait()
}

// repeated is n bytes of text over and over.
func repeated(text string, n int64) io.Reader {
	piece := []byte(strings.Repeat(text, 32<<10/len(text)))
	return io.LimitReader(&endless{piece: piece}, n)
}

type endless struct {
	piece []byte
	at    int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.piece[e.at:])
	e.at = (e.at + n) % len(e.piece)
	return n, nil
}

// squeezed is n bytes, text over and over, as gzip: one piece of a MiB is compressed, and what that gives repeated, for it does not refer to what was before.
func squeezed(t *testing.T, text byte, n int) []byte {
	t.Helper()
	piece := bytes.Repeat([]byte{text}, 1<<20)
	var once, buf bytes.Buffer
	z, _ := flate.NewWriter(&once, flate.BestSpeed)
	_, _ = z.Write(piece)
	if err := z.Flush(); err != nil {
		t.Fatal(err)
	}
	buf.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255})
	sum := crc32.NewIEEE()
	for range n >> 20 {
		buf.Write(once.Bytes())
		sum.Write(piece)
	}
	buf.Write([]byte{1, 0, 0, 0xff, 0xff}) // a last block, of nothing
	return bin.LittleEndian.AppendUint32(bin.LittleEndian.AppendUint32(buf.Bytes(), sum.Sum32()), uint32(n>>20<<20))
}

// gzipped is data as gzip.
func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestOverload: whatever clients send, the router answers it clearly, stays small, and goes on answering others.
func TestOverload(t *testing.T) {
	o := startOverload(t, newHub(t, sandbox.Options{}), "max_connections: 1200, max_connections_per_ip: 500")
	o.during("nothing", func() {})
	o.bodies()
	o.connections()
	o.names()
	if err := o.p.terminate(); err != nil {
		t.Errorf("the router ended with %v", err)
	}
}

// startOverload starts a router with settings of its server.
func startOverload(t *testing.T, h hub, server string) *overload {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "router.yaml")
	text := fmt.Sprintf(`
server: {host: 127.0.0.1, port: 0, data_dir: %s, admin_token: adm-planted, min_free_bytes: 1MiB, %s, trusted_proxies: [192.0.2.1]}
api_keys: [{id: shop, client_secret: %s, server_secret: %s}]
destinations:
  crm:
    type: hubspot
    filter: {not: {event_type: unread}}
    hubspot: {access_token: %s, hub_id: "%s", base_url: %s}
`, filepath.Join(dir, "data"), server, clientSecret, serverSecret, accessToken, hubID, h.url)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, config)
	o := &overload{T: t, p: p, addr: strings.TrimPrefix(p.url, "http://"), attacker: from("127.0.0.2"), client: from("127.0.0.1")}
	o.base = p.rss()
	return o
}

func (o *overload) bodies() {
	const events, bulk = "/api/v1/s2s/event", "/api/v1/events/bulk"
	const large = 100 << 20
	reader := func(data []byte) func() io.Reader { return func() io.Reader { return bytes.NewReader(data) } }
	million := `{"x":` + strings.Repeat("[", 1_000_000)
	o.during("nested a million deep", func() { o.wants(400, events, func() io.Reader { return strings.NewReader(million) }) })
	o.during("100 MB of [", func() { o.wants(413, events, func() io.Reader { return repeated("[", large) }) })
	o.during("a string of 100 MB", func() {
		o.wants(413, events, func() io.Reader { return io.MultiReader(strings.NewReader(`{"a":"`), repeated("x", large)) })
	})
	bomb := squeezed(o.T, ' ', large)
	o.during("a gzip bomb", func() { o.wants(413, events, reader(bomb), "Content-Encoding", "gzip") })
	o.during("a gzip bomb that says nothing", func() { o.wants(413, events, reader(bomb)) })
	twice := gzipped(o.T, bomb)
	o.during("gzip in gzip", func() { o.wants(400, events, reader(twice), "Content-Encoding", "gzip, gzip") })
	line := squeezed(o.T, 'x', large)
	o.during("an upload of one endless line", func() { o.wants(400, bulk, reader(line), "Content-Encoding", "gzip") })
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	part, _ := parts.CreateFormFile("file", "x.gz")
	_, _ = part.Write(line)
	_ = parts.Close()
	o.during("the same in a form", func() { o.wants(400, bulk, reader(form.Bytes()), "Content-Type", parts.FormDataContentType()) })
}

func (o *overload) connections() {
	var open []net.Conn
	closeAll := func() {
		for _, c := range open {
			c.Close()
		}
		open = nil
	}
	many := func(n int, text string) func() {
		return func() {
			for range n {
				conn := o.dial()
				open = append(open, conn)
				if _, err := io.WriteString(conn, text); err != nil {
					o.Error(err)
				}
			}
		}
	}
	o.during("300 that begin a body", many(300, "POST /api/v1/s2s/event HTTP/1.1\r\nHost: x\r\nX-Auth-Token: "+serverSecret+"\r\nContent-Length: 100000\r\n\r\n{"))
	closeAll()
	o.during("more than an address may have, slow", func() {
		many(700, "POST /api/v1/s2s/event HTTP/1.1\r\nHost: x\r\nX-Slow: ")()
		refused := 0
		for _, conn := range open[695:] {
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil && res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != "" {
				refused++
			}
		}
		if refused != 5 {
			o.Errorf("of 700 connections of one address %d of the last 5 are told that 500 are allowed", refused)
		}
	})
	closeAll()
	o.during("clients that read no answers", func() {
		body := `{"event_type":"unread"}` // which is filtered: thousands of them are taken
		request := fmt.Sprintf("POST /api/v1/s2s/event HTTP/1.1\r\nHost: x\r\nX-Auth-Token: %s\r\nContent-Length: %d\r\n\r\n%s", serverSecret, len(body), body)
		pipeline := []byte(strings.Repeat(request, 500))
		var writing sync.WaitGroup
		for range 20 {
			conn := o.dial()
			open = append(open, conn)
			writing.Go(func() {
				for {
					_ = conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
					if _, err := conn.Write(pipeline); err != nil { // the router reads no further
						return
					}
				}
			})
		}
		writing.Wait()
	})
	closeAll()
	o.during("450 idle connections", func() {
		many(450, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")()
		for _, c := range open {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != http.StatusOK {
				o.Fatalf("an idle connection: %v", err)
			}
		}
	})
	closeAll()
}

// names posts persons and event names that are all different: nothing that people look at grows with them.
func (o *overload) names() {
	series := func() int {
		_, page := o.p.get("/metrics")
		return strings.Count(page, "\n")
	}
	before := series()
	o.during("3,000 persons and names of events", func() {
		var posting sync.WaitGroup
		for worker := range 4 {
			posting.Go(func() {
				for n := range 3 {
					var events []string
					for i := range 250 {
						id := fmt.Sprintf("%d-%d-%d", worker, n, i)
						events = append(events, fmt.Sprintf(`{"event_type":"name %s","user":{"email":"p%s@example.com","id":"u%s"}}`, id, id, id))
					}
					if status, body, err := post(o.attacker, o.p.url, "["+strings.Join(events, ",")+"]"); err != nil || status != http.StatusOK {
						o.Errorf("%d %s %v", status, body, err)
					}
				}
			})
		}
		posting.Wait()
	})
	o.p.drain(2 * time.Minute) // the other client has stopped, or there would always be an entry that waits
	if after := series(); after > before+200 {
		o.Errorf("%d lines of metrics, %d before", after, before)
	}
	if n := strings.Count(o.p.log.String(), "their name has no definition"); n == 0 || n > 100 {
		o.Errorf("%d lines of the log about names without a definition, want 100 at most", n)
	}
}
