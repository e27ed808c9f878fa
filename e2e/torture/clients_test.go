package torture

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// poster is an application that posts events over HTTP, and posts again until they are taken.
type poster struct {
	crowd
	x      *torture
	url    string // of the router, through a proxy
	client *http.Client
	hasty  bool // gives up now and then
}

func (x *torture) newPoster(name, address string, ids bool) *poster {
	return &poster{
		crowd: x.crowd(name, ids), x: x, url: "http://" + address, hasty: true,
		client: &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{}}, // no proxy of the environment, no shared connections
	}
}

// post makes one request. final: another one would get the same answer.
func (p *poster) post(path, contentType string, body []byte) (status int, answer string, err error) {
	res, err := p.client.Post(p.url+path, contentType, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return res.StatusCode, string(data), err
}

// again waits before another try. It reports false when the client gives up: the end is near, or it is in a hurry.
func (p *poster) again(end context.Context) bool {
	if p.hasty && p.rnd.IntN(40) == 0 {
		return false
	}
	time.Sleep(time.Duration(20+p.rnd.IntN(150)) * time.Millisecond)
	return end.Err() == nil
}

// refused reports whether an answer says that the same body can be sent again. Proxies cut bodies short: that is not the client's fault.
func refused(status int, answer string) bool {
	return status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout ||
		status == http.StatusBadRequest && strings.Contains(answer, "ended too early")
}

// events posts arrays of events until stop; what is under way then goes on until end.
func (p *poster) events(stop, end context.Context, path string) {
	defer p.client.CloseIdleConnections()
	for stop.Err() == nil {
		var of []*entry
		var bodies [][]byte
		for range 1 + p.rnd.IntN(4) {
			e := p.next(time.Time{})
			of, bodies = append(of, e), append(bodies, e.json())
		}
		p.deliver(end, path, of, append(append([]byte("["), bytes.Join(bodies, []byte(","))...), ']'))
		time.Sleep(time.Duration(p.rnd.IntN(60)) * time.Millisecond)
	}
}

// deliver posts one body until it is taken.
func (p *poster) deliver(end context.Context, path string, of []*entry, body []byte) {
	for {
		p.tried(of)
		status, answer, err := p.post(path, "application/json", body)
		switch {
		case err == nil && status == http.StatusOK:
			for _, e := range of {
				p.ledger.ack(e)
			}
			return
		case err == nil && !refused(status, answer):
			p.x.t.Errorf("%s: POST %s: %d %s\n%s", p.crowd.client, path, status, answer, body)
			return
		}
		if !p.again(end) {
			return
		}
	}
}

func (p *poster) tried(of []*entry) {
	for _, e := range of {
		p.ledger.tried(e)
	}
}

// pixels are mails that are opened.
func (p *poster) pixels(stop, end context.Context) {
	defer p.client.CloseIdleConnections()
	for stop.Err() == nil {
		e := p.enter(entry{Client: p.crowd.client, Kind: track, Person: p.person()})
		q := url.Values{"token": {clientSecret}, "event_id": {e.ID}, "event_type": {e.eventType()}, "user.email": {e.Person}, "mark": {e.mark()}}
		for {
			p.ledger.tried(e)
			res, err := p.client.Get(p.url + "/api/v1/p.gif?" + q.Encode())
			if err == nil {
				_, err = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			if err == nil && res.StatusCode == http.StatusOK {
				p.ledger.ack(e)
				break
			}
			if !p.again(end) {
				break
			}
		}
		time.Sleep(time.Duration(100+p.rnd.IntN(200)) * time.Millisecond)
	}
}

// imports uploads files of events that count earlier. Each burst starts one more at once, of many events.
func (p *poster) imports(stop, end context.Context, burst <-chan struct{}) {
	defer p.client.CloseIdleConnections()
	for n := 0; stop.Err() == nil; n++ {
		lines := 5 + p.rnd.IntN(60)
		select {
		case <-stop.Done():
			return
		case <-burst:
			lines = 500
		case <-time.After(time.Duration(300+p.rnd.IntN(1500)) * time.Millisecond):
		}
		of, file := p.file(lines)
		p.upload(end, fmt.Sprintf("upload-%d", n), of, file)
	}
}

// file makes the lines of a file.
func (p *poster) file(lines int) (of []*entry, file [][]byte) {
	for range lines {
		ago := time.Duration(p.rnd.IntN(60_000_000)) * time.Microsecond
		e := p.next(time.Now().Add(-ago).Truncate(time.Microsecond))
		of, file = append(of, e), append(file, append(e.json(), '\n'))
	}
	return of, file
}

// upload sends a file until all of it is taken: from the line that the router names, or all again.
func (p *poster) upload(end context.Context, name string, of []*entry, file [][]byte) {
	for from := 1; ; {
		p.tried(of[from-1:])
		q := url.Values{"token": {serverSecret}, "upload_id": {name}, "first_line": {strconv.Itoa(from)}}
		status, answer, err := p.post("/api/v1/events/bulk?"+q.Encode(), "application/x-ndjson", bytes.Join(file[from-1:], nil))
		if next := int(gjson.Get(answer, "next_line").Int()); err == nil && next > from {
			for _, e := range of[from-1 : next-1] {
				p.ledger.ack(e)
			}
			from = next
		}
		if err == nil && status == http.StatusOK {
			if from != len(file)+1 {
				p.x.t.Errorf("upload of %d lines: %s", len(file), answer)
			}
			return
		}
		if err == nil && !refused(status, answer) {
			p.x.t.Errorf("upload: %d %s", status, answer)
			return
		}
		if !p.again(end) {
			return
		}
	}
}

// sends uploads files with `router send`, which goes on by itself whatever happens.
func (p *poster) sends(stop, end context.Context) {
	for n := 0; stop.Err() == nil; n++ {
		of, file := p.file(100 + p.rnd.IntN(200))
		path := filepath.Join(p.x.dir, "send.ndjson")
		if err := os.WriteFile(path, bytes.Join(file, nil), 0o600); err != nil {
			p.x.t.Error(err)
			return
		}
		cmd := exec.CommandContext(end, binary, "send", "--url", p.url, "--state-dir", p.x.dir, "--no-resume", "--max-wait", "5m", path)
		cmd.Env = append(os.Environ(), "ROUTER_TOKEN="+serverSecret)
		p.tried(of)
		out, err := cmd.CombinedOutput()
		if err == nil {
			for _, e := range of {
				p.ledger.ack(e)
			}
		} else if end.Err() == nil {
			p.x.t.Errorf("router send: %v\n%s", err, out)
		}
		select {
		case <-stop.Done():
		case <-time.After(time.Duration(2000+p.rnd.IntN(4000)) * time.Millisecond):
		}
	}
}
