package upload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// scripted is a router in memory that answers as it is told; then it takes everything.
type scripted struct {
	t       *testing.T
	answers []func(line int64, lines []string) (status int, header, body string)
	taken   map[int64]string // lines by number
	at      []time.Duration  // of each request
	began   time.Time
}

// RoundTrip implements [http.RoundTripper].
func (r *scripted) RoundTrip(req *http.Request) (*http.Response, error) {
	r.at = append(r.at, time.Since(r.began))
	first, err := strconv.ParseInt(req.URL.Query().Get("first_line"), 10, 64)
	if err != nil || req.Header.Get("X-Auth-Token") != "secret" || req.URL.Query().Get("upload_id") != "u" {
		r.t.Errorf("request %s: %v", req.URL, err)
	}
	body, _ := io.ReadAll(req.Body)
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	answer := r.take
	if len(r.answers) > 0 {
		answer, r.answers = r.answers[0], r.answers[1:]
	}
	status, header, text := answer(first, lines)
	if status == 0 {
		return nil, errors.New("connection reset")
	}
	resp := &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text)), Request: req}
	if header != "" {
		resp.Header.Set("Retry-After", header)
	}
	return resp, nil
}

// take takes all lines.
func (r *scripted) take(first int64, lines []string) (int, string, string) {
	n := r.store(first, lines)
	return 200, "", fmt.Sprintf(`{"status":"ok","received":%d,"accepted":%d,"rejected":0,"next_line":%d,"errors":[]}`, n, n, first+int64(len(lines)))
}

func (r *scripted) store(first int64, lines []string) (n int) {
	for i, l := range lines {
		if strings.TrimSpace(l) == "" {
			continue
		}
		n++
		if old, ok := r.taken[first+int64(i)]; ok && old != l {
			r.t.Errorf("line %d is %q, and was %q", first+int64(i), l, old)
		}
		r.taken[first+int64(i)] = l
	}
	return n
}

func (r *scripted) lost(first int64, lines []string) (int, string, string) {
	r.store(first, lines)
	return 0, "", ""
}

// partly takes the lines before one, and is full then.
func (r *scripted) partly(next int64) func(int64, []string) (int, string, string) {
	return func(first int64, lines []string) (int, string, string) {
		n := r.store(first, lines[:next-first])
		return 503, "7", fmt.Sprintf(`{"message":"full","error":"log is full","received":%d,"accepted":%d,"rejected":0,"next_line":%d,"errors":[]}`, n, n, next)
	}
}

func status(code int, retryAfter, body string) func(int64, []string) (int, string, string) {
	return func(int64, []string) (int, string, string) { return code, retryAfter, body }
}

// textOf is n lines, the tenth ones blank.
func textOf(n int) string {
	var text strings.Builder
	for i := 1; i <= n; i++ {
		if i%10 != 0 {
			fmt.Fprintf(&text, `{"n":%d}`, i)
		}
		text.WriteByte('\n')
	}
	return text.String()
}

// TestSend: whatever the router answers meanwhile, in the end it has each line under its number, and they are counted once.
func TestSend(t *testing.T) {
	f := func(name string, waited time.Duration, script func(r *scripted)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := &scripted{t: t, taken: map[int64]string{}, began: time.Now()}
			script(r)
			text := textOf(1000)
			done, err := Send(t.Context(), strings.NewReader(text), Options{
				URL: "http://router/", Token: "secret", ID: "u", PieceBytes: 1000, Client: &http.Client{Transport: r},
			})
			if want := (Position{Line: 1001, Offset: int64(len(text))}); err != nil || done.Accepted != 900 || done.Rejected != 0 || done.Position != want {
				t.Errorf("%s: %+v, %v", name, done, err)
			}
			for i := int64(1); i <= 1000; i++ {
				if want := fmt.Sprintf(`{"n":%d}`, i); i%10 != 0 && r.taken[i] != want {
					t.Errorf("%s: line %d is %q", name, i, r.taken[i])
				}
			}
			if len(r.taken) != 900 {
				t.Errorf("%s: %d lines", name, len(r.taken))
			}
			if d := time.Since(r.began); d < waited || d > waited*5/4+time.Millisecond {
				t.Errorf("%s: took %v, want %v and up to a quarter more", name, d, waited)
			}
		})
	}
	f("all is well", 0, func(*scripted) {})
	f("an answer is lost", firstWait, func(r *scripted) { r.answers = append(r.answers, r.take, r.lost) })
	f("full in the middle", 14*time.Second, func(r *scripted) { r.answers = append(r.answers, r.partly(31), r.partly(32)) })
	f("a proxy without a router", firstWait*7, func(r *scripted) {
		r.answers = append(r.answers, status(502, "", "<html>"), status(504, "", ""), status(0, "", ""))
	})
	f("too many requests", 3*time.Second, func(r *scripted) {
		r.answers = append(r.answers, status(429, "3", `{"message":"slow down","error":""}`))
	})
	f("cut off between", firstWait, func(r *scripted) {
		r.answers = append(r.answers, status(400, "", `{"message":"Request body ended too early","error":"","next_line":1}`))
	})
}

// TestSendStops: what ends an upload before its end, and where.
func TestSendStops(t *testing.T) {
	f := func(want string, line int64, script func(r *scripted)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := &scripted{t: t, taken: map[int64]string{}, began: time.Now()}
			script(r)
			done, err := Send(t.Context(), strings.NewReader(textOf(1000)), Options{
				URL: "http://router", Token: "secret", ID: "u", PieceBytes: 1000, MaxWait: time.Minute, Client: &http.Client{Transport: r},
			})
			if err == nil || !strings.Contains(err.Error(), want) || done.Line != line || done.Accepted != int64(len(r.taken)) {
				t.Errorf("%v at %+v, want %s at line %d", err, done, want, line)
			}
		})
	}
	f("401: no", 1, func(r *scripted) { r.answers = append(r.answers, status(401, "", `{"message":"no","error":""}`)) })
	f("does not answer as a router does", 1, func(r *scripted) { r.answers = append(r.answers, status(200, "", "<html>")) })
	f("counts 3 lines where", 1, func(r *scripted) { r.answers = append(r.answers, status(200, "", `{"status":"ok","accepted":3}`)) })
	f("no progress for 1m0s: connection reset", 1, func(r *scripted) {
		for range 20 {
			r.answers = append(r.answers, status(0, "", ""))
		}
	})
	f("bad line", 35, func(r *scripted) {
		r.answers = append(r.answers, func(first int64, lines []string) (int, string, string) {
			n := r.store(first, lines[:34])
			return 400, "", fmt.Sprintf(`{"message":"bad line","error":"x","accepted":%d,"rejected":1,"next_line":35,"errors":[{"line":35,"reason":"x"}]}`, n)
		})
	})
}

// TestSendInterrupted: a wait ends at once.
func TestSendInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &scripted{t: t, taken: map[int64]string{}, began: time.Now()}
		r.answers = append(r.answers, r.partly(11))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		done, err := Send(ctx, strings.NewReader(textOf(100)), Options{URL: "http://router", Token: "secret", ID: "u", Client: &http.Client{Transport: r}})
		if !errors.Is(err, context.DeadlineExceeded) || done.Line != 11 || done.Accepted != 9 || time.Since(r.began) != 3*time.Second {
			t.Errorf("%+v, %v after %v", done, err, time.Since(r.began))
		}
	})
}

// FuzzPieces: however a text is cut, the pieces are the text, their positions and counts right, and what is left of one after some lines is, too.
func FuzzPieces(f *testing.F) {
	for _, seed := range []string{"", "\n", "{}", "{}\n\n{}\r\n", "\ufeff{}\n", textOf(30), "x\n[", " \n\n{}"} {
		f.Add(seed, 7, 3)
	}
	f.Fuzz(func(t *testing.T, text string, size, skip int) {
		size, skip = max(1, size%100), max(0, skip%5)
		var joined bytes.Buffer
		c := newPieces(strings.NewReader(text), Position{Line: 1}, size)
		want := Position{Line: 1}
		for {
			p, err := c.next()
			if errors.Is(err, ErrArray) {
				return
			}
			if p.begin != want {
				t.Fatalf("a piece begins at %+v, the one before ended at %+v", p.begin, want)
			}
			joined.Write(p.text)
			want.Offset += int64(len(p.text))
			want.Line += int64(bytes.Count(p.text, []byte("\n")))
			if n := len(p.text); n > 0 && p.text[n-1] != '\n' {
				want.Line++
			}
			rest := p.from(p.begin.Line + int64(skip))
			if !bytes.HasSuffix(p.text, rest.text) || rest.begin.Offset != p.end.Offset-int64(len(rest.text)) || rest.lines != countLines(rest.text) || p.lines != countLines(p.text) {
				t.Fatalf("%q: %+v, and from %d: %+v", text, p, skip, rest)
			}
			if p.end != want {
				t.Fatalf("a piece of %q ends at %+v, want %+v", p.text, p.end, want)
			}
			if err != nil {
				break
			}
		}
		if diff := cmp.Diff(text, joined.String()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func countLines(text []byte) (n int64) {
	for line := range bytes.Lines(text) {
		if !isBlank(line) {
			n++
		}
	}
	return n
}

// TestStateIsReadable: a state holds no more than it should.
func TestStateIsReadable(t *testing.T) {
	data, err := json.Marshal(State{ID: "u", Progress: Progress{Position: Position{3, 4}, Accepted: 1}})
	if err != nil || !strings.Contains(string(data), `"progress":{"line":3,"offset":4,"accepted":1,"rejected":0}`) {
		t.Errorf("%s %v", data, err)
	}
}
